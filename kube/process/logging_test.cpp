#include "kube/process/logging.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "kube/text/text.h"

namespace pointsman::kube {
namespace {

using testing::EndsWith;
using testing::MatchesRegex;

std::string Line(const std::string& format, const std::string& message) {
  spdlog::details::log_msg said("pointsman", spdlog::level::warn, message);
  said.time = std::chrono::system_clock::from_time_t(1'767'323'045);
  spdlog::memory_buf_t buffer;
  MakeLogFormatter(format)->format(said, buffer);
  return {buffer.data(), buffer.size()};
}

// What a tenant may write into an annotation.
const std::string kForged =
    "Service a/b: \n2026-01-02T03:04:05.000Z error forged\x1b[2J\r\u009b2J\u202e\u2028\xe3\x80";

TEST(LoggingTest, TextIsTimeLevelMessage) {
  EXPECT_EQ(Line("text", "two words, \"quoted\" C:\\n é 日本"),
            "2026-01-02T03:04:05.000Z warning two words, \"quoted\" C:\\n é 日本\n");
}

TEST(LoggingTest, AMessageIsOneLineOfTextWithoutControlCharacters) {
  std::string line = Line("text", kForged);
  ASSERT_THAT(line, EndsWith("\n"));
  line.pop_back();
  EXPECT_EQ(line, text::Escape(line));
  EXPECT_TRUE(text::IsValidUtf8(line));
  EXPECT_THAT(line, EndsWith("forged\\x1b[2J\\r\\u009b2J\\u202e\\u2028\\xe3\\x80"));
}

TEST(LoggingTest, AMessageIsOneObjectOfJson) {
  std::string line = Line("json", kForged);
  ASSERT_THAT(line, EndsWith("\n"));
  line.pop_back();
  EXPECT_EQ(line.find('\n'), std::string::npos);
  const auto object = nlohmann::json::parse(line);
  EXPECT_EQ(object["level"], "warning");
  EXPECT_EQ(object["time"], "2026-01-02T03:04:05.000Z");
  EXPECT_THAT(object["message"].get<std::string>(), testing::StartsWith("Service a/b: \n2026"));
}

TEST(LoggingTest, OtherFormatsAreRefused) {
  EXPECT_THROW(MakeLogFormatter("xml"), std::invalid_argument);
}

}  // namespace
}  // namespace pointsman::kube
