#include "kube/text/text.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace pointsman::text {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";

std::string Times(size_t count, std::string_view piece) {
  std::string text;
  for (size_t i = 0; i < count; ++i)
    text += piece;
  return text;
}

// Bytes of every kind beside each other: characters of each length, what only looks like one.
std::vector<std::string> OddTexts() {
  const std::vector<std::string> pieces{"a",
                                        "\"",
                                        "\\",
                                        "\n",
                                        "\x1b[2J",
                                        "é",
                                        "\u3000",
                                        "\U0001f600",
                                        "\u202e",
                                        "\x80",
                                        "\xc3",
                                        "\xe3\x80",
                                        "\xf0\x9f\x98",
                                        "\xed\xa0\x80",
                                        "\xc0\xaf",
                                        "\xff",
                                        "\u0085",
                                        "\xf4\x90\x80\x80",
                                        std::string(1, '\0')};
  std::vector<std::string> texts{""};
  for (const std::string& first : pieces) {
    for (const std::string& second : pieces) {
      texts.push_back(first + second);
      texts.push_back(Times(3, first).append(second).append("z").append(first));
    }
    texts.push_back(Times(40, first));
  }
  return texts;
}

TEST(TextTest, CutsAtACharactersBorder) {
  EXPECT_EQ(Cut("abc", 3), "abc");
  EXPECT_EQ(Cut("abcd", 3), "abc");
  EXPECT_EQ(Cut("ééé", 4), "éé");
  EXPECT_EQ(Cut("ééé", 3), "é");
  EXPECT_EQ(Cut("ééé", 1), "");
  EXPECT_EQ(Cut("ééé", 0), "");
  EXPECT_EQ(Cut("a\U0001f600b", 4), "a");
  EXPECT_EQ(Cut("a\U0001f600b", 5), "a\U0001f600");
  // Bytes that belong to no character are not drawn back to the beginning.
  EXPECT_EQ(Cut(Times(100, "\x80"), 50).size(), 50U);
}

TEST(TextTest, ShortensToTheBoundWithTheEllipsisInIt) {
  EXPECT_EQ(Shorten("abcdef", 6), "abcdef");
  EXPECT_EQ(Shorten("abcdef", 5), "ab…");
  EXPECT_EQ(Shorten("abcdef", 2), "ab");
  EXPECT_EQ(Shorten("éééé", 6), "é…");
  EXPECT_EQ(Shorten("éééé", 1), "");
}

TEST(TextTest, WhateverIsCutIsNoLongerThanAskedAndWasValidIfTheTextWas) {
  for (const std::string& text : OddTexts()) {
    for (size_t size = 0; size <= text.size() + 1; ++size) {
      EXPECT_LE(Cut(text, size).size(), size);
      EXPECT_GE(Cut(text, size).size() + 3, std::min(size, text.size()));
      EXPECT_LE(Shorten(text, size).size(), size);
      EXPECT_LE(Message(text, size).size(), size);
      EXPECT_TRUE(IsValidUtf8(Message(text, size)));
      EXPECT_TRUE(IsValidUtf8(Quote(text, size)));
      EXPECT_LE(Quote(text, size).size(), 4 * size + 5);
      if (!IsValidUtf8(text)) continue;
      EXPECT_TRUE(IsValidUtf8(Cut(text, size)));
      EXPECT_TRUE(IsValidUtf8(Shorten(text, size)));
    }
  }
}

TEST(TextTest, KnowsWhatIsUtf8) {
  for (const char* valid : {"", "abc", "é", "\U0010ffff", "\xef\xbf\xbd", "\u0085"})
    EXPECT_TRUE(IsValidUtf8(valid)) << valid;
  for (const char* invalid : {"\x80", "a\xc3", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                              "\xe3\x80", "\xff", "\xf8\x88\x80\x80\x80"})
    EXPECT_FALSE(IsValidUtf8(invalid)) << Escape(invalid);
}

TEST(TextTest, ReplacesEachInvalidByte) {
  const std::string r(kReplacement);
  EXPECT_EQ(ToValidUtf8("aé\U0001f600"), "aé\U0001f600");
  EXPECT_EQ(ToValidUtf8("a\x80z"), "a" + r + "z");
  EXPECT_EQ(ToValidUtf8("\xe3\x80"), r + r);
  EXPECT_EQ(ToValidUtf8("\xed\xa0\x80z"), r + r + r + "z");
  for (const std::string& text : OddTexts()) {
    EXPECT_TRUE(IsValidUtf8(ToValidUtf8(text)));
    EXPECT_NO_THROW(nlohmann::json(ToValidUtf8(text)).dump());
    if (IsValidUtf8(text)) {
      EXPECT_EQ(ToValidUtf8(text), text);
    }
  }
}

TEST(TextTest, EscapesWhatWouldDoMoreThanBeRead) {
  EXPECT_EQ(Escape("plain é 日本語 \U0001f600 \"q\" a\\b"), "plain é 日本語 \U0001f600 \"q\" a\\b");
  EXPECT_EQ(Escape("a\nb\r\tc"), "a\\nb\\r\\tc");
  EXPECT_EQ(Escape("a\nb\r\tc", LineBreaks::kKeep), "a\nb\\r\tc");
  EXPECT_EQ(Escape(std::string_view("\0\x1b[2J\x7f", 6)), "\\x00\\x1b[2J\\x7f");
  EXPECT_EQ(Escape("\u0085\u009b2J"), "\\u0085\\u009b2J");
  EXPECT_EQ(Escape("a\u202eb\u2066c\u2028d\u200be\ufeff\u3000"),
            "a\\u202eb\\u2066c\\u2028d\\u200be\\ufeff\\u3000");
  EXPECT_EQ(Escape("\U000e0041"), "\\U000e0041");
  EXPECT_EQ(Escape("a\x80\xe3\x80z"), "a\\x80\\xe3\\x80z");
}

TEST(TextTest, WhatIsEscapedIsOneLineWithoutControlCharacters) {
  for (const std::string& text : OddTexts()) {
    const std::string escaped = Escape(text);
    EXPECT_TRUE(IsValidUtf8(escaped));
    EXPECT_LE(escaped.size(), 4 * text.size());
    for (const char c : escaped)
      EXPECT_FALSE(static_cast<unsigned char>(c) < 0x20 || c == 0x7f) << escaped;
    EXPECT_EQ(escaped, Escape(escaped));
    EXPECT_NO_THROW(nlohmann::json(escaped).dump());
  }
}

TEST(TextTest, QuotesAndSaysThatThereIsMore) {
  EXPECT_EQ(Quote("abc"), "\"abc\"");
  EXPECT_EQ(Quote("abcdef", 3), "\"abc…\"");
  EXPECT_EQ(Quote("a\"b\\c\n"), R"("a\"b\\c\n")");
  EXPECT_EQ(Quote(Times(25, "\u3000") + "10.0.0.0/8"), "\"" + Times(21, "\\u3000") + "…\"");
}

TEST(TextTest, AMessageKeepsItsLinesAndItsBound) {
  EXPECT_EQ(Message("line 1\nline\t2\x1b", 100), "line 1\nline\t2\\x1b");
  EXPECT_EQ(Message(Times(1000, "\x1b"), 11), "\\x1b\\x1b…");
  EXPECT_EQ(Message("abcdef", 5), "ab…");
  EXPECT_EQ(Message("abcde", 5), "abcde");
}

// Go's strings.TrimSpace on the same texts.
TEST(TextTest, TrimsAsTheApiServerDoes) {
  for (const char* space : {"\t", "\n", "\v", "\f", "\r", " ", "\u0085", "\u00a0", "\u1680",
                            "\u2000", "\u200a", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000"}) {
    EXPECT_EQ(TrimSpace(Times(25, space) + "10.0.0.0/8" + Times(2, space)), "10.0.0.0/8");
    EXPECT_EQ(TrimSpace(Times(3, space)), "");
    EXPECT_EQ(TrimSpace("a" + std::string(space) + "b"), "a" + std::string(space) + "b");
  }
  // No white space to Go: zero width space, Mongolian vowel separator, byte order mark, invalid
  // bytes.
  for (const char* other : {"\u200b", "\u180e", "\ufeff", "\x85", "\xa0", "\xe3\x80", "\x80"})
    EXPECT_EQ(TrimSpace(other), other);
  EXPECT_EQ(TrimSpace(""), "");
  EXPECT_EQ(TrimSpace("a\x85 "), "a\x85");
}

}  // namespace
}  // namespace pointsman::text
