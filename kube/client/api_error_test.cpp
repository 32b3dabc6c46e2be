#include "kube/client/api_error.h"

#include <gtest/gtest.h>

namespace pointsman::kube {
namespace {

TEST(ApiErrorTest, ReadsAStatus) {
  const ApiError error = ApiError::FromBody(422, R"({"kind":"Status","apiVersion":"v1",
    "status":"Failure","message":"spec.mode: bad","reason":"Invalid","code":422,
    "details":{"name":"x","retryAfterSeconds":3,
      "causes":[{"reason":"FieldValueInvalid","message":"bad","field":"spec.mode"}]}})");
  EXPECT_EQ(error.code(), 422);
  EXPECT_TRUE(error.IsInvalid());
  EXPECT_STREQ(error.what(), "spec.mode: bad");
  ASSERT_EQ(error.causes().size(), 1U);
  EXPECT_EQ(error.causes()[0].field, "spec.mode");
  EXPECT_EQ(error.causes()[0].reason, "FieldValueInvalid");
  EXPECT_EQ(error.retry_after(), std::chrono::seconds(3));
}

TEST(ApiErrorTest, TellsAlreadyExistsFromConflict) {
  const auto body = [](const std::string& reason) {
    return R"({"kind":"Status","code":409,"reason":")" + reason + "\"}";
  };
  EXPECT_TRUE(ApiError::FromBody(409, body("AlreadyExists")).IsAlreadyExists());
  EXPECT_FALSE(ApiError::FromBody(409, body("AlreadyExists")).IsConflict());
  EXPECT_TRUE(ApiError::FromBody(409, body("Conflict")).IsConflict());
}

TEST(ApiErrorTest, TakesTheCodeOfAWatchErrorFromTheStatus) {
  const ApiError error =
      ApiError::FromBody(200, R"({"kind":"Status","code":410,"message":"too old"})");
  EXPECT_TRUE(error.IsExpired());
  EXPECT_EQ(error.reason(), "Gone");
}

TEST(ApiErrorTest, MakesDoWithoutAStatus) {
  EXPECT_EQ(ApiError::FromBody(503, "upstream down").what(),
            std::string("HTTP 503: upstream down"));
  EXPECT_EQ(ApiError::FromBody(503, "").reason(), "ServiceUnavailable");
  EXPECT_EQ(ApiError::FromBody(404, "[1]").reason(), "NotFound");
  // Wrong types within a Status are no reason to fail.
  EXPECT_EQ(
      ApiError::FromBody(500, R"({"kind":"Status","code":"x","details":[],"message":7})").code(),
      500);
}

}  // namespace
}  // namespace pointsman::kube
