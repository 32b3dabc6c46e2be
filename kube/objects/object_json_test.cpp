#include "kube/objects/object_json.h"

#include <gtest/gtest.h>

namespace pointsman::kube {
namespace {

using nlohmann::json;

TEST(ObjectJsonTest, IsTheSameDomButForWhatIsSkipped) {
  const char* const text = R"({
    "apiVersion": "v1", "n": null, "t": true, "f": false, "i": -9223372036854775808,
    "u": 18446744073709551615, "d": 1.5e3, "s": "Ä\n\"\u00e9\ud83d\ude00", "e": {}, "l": [],
    "nested": [[1, {"metadata": {"managedFields": "kept: another path"}}], null],
    "metadata": {"name": "x", "managedFields": [{"fieldsV1": {"f:a": {}}}], "uid": "u"},
    "status": {"kernel": {"release": "6.1", "modules": [1, 2]}, "ready": 1},
    "twice": 1, "twice": 2})";
  json expected = json::parse(text);
  expected["metadata"].erase("managedFields");
  EXPECT_EQ(ParseObject(text), expected);
  expected["status"].erase("kernel");
  EXPECT_EQ(ParseObject(text, {kManagedFields, "status.kernel"}), expected);
  EXPECT_EQ(ParseObject(text, {}), json::parse(text));
}

TEST(ObjectJsonTest, RefusesWhatIsNoObject) {
  for (const char* text :
       {"", "[]", "1", "nonsense", "{", R"({"a":})", R"({"a":nul})", "{} {}", R"({"a":1,})",
        R"({"a":"\ud800"})", R"({"metadata":{"managedFields":[})"}) {
    EXPECT_THROW(ParseObject(text), std::invalid_argument) << text;
  }
  std::string deep = "{\"a\":";
  for (int i = 0; i < 5000; ++i)
    deep += "[";
  EXPECT_THROW(ParseObject(deep), std::invalid_argument) << "bounded nesting";
}

}  // namespace
}  // namespace pointsman::kube
