#include "kube/testing/mutator.h"

#include <array>
#include <limits>
#include <stdexcept>

#include "kube/text/text.h"

namespace pointsman::testing {
namespace {

// Pieces of odd texts: characters of every length, what draws nothing or does something to a
// terminal, what looks like a value, what is quoted somewhere.
constexpr std::array<std::string_view, 34> kPieces{"a",
                                                   "0",
                                                   " ",
                                                   "\u3000",
                                                   "\u00a0",
                                                   "\u0085",
                                                   "\u2029",
                                                   "é",
                                                   "日本語",
                                                   "\U0001f600",
                                                   "\u202e",
                                                   "\u200b",
                                                   "\ufeff",
                                                   "\ufffd",
                                                   "\n",
                                                   "\r\n",
                                                   "\t",
                                                   "\x1b[2J",
                                                   "\x7f",
                                                   "\"",
                                                   "'",
                                                   "\\",
                                                   "/",
                                                   "%s%n",
                                                   "{}",
                                                   "$(reboot)",
                                                   "; -j ACCEPT",
                                                   "10.0.0.1",
                                                   "::ffff:10.0.0.1",
                                                   "010.0.0.08",
                                                   "10.0.0.0/8",
                                                   "2026-01-02T03:04:05Z",
                                                   "9999-12-31T23:59:59Z",
                                                   "-A INPUT"};

constexpr std::array<size_t, 8> kLengths{1, 2, 3, 63, 64, 65, 300, 40'000};

const std::array<nlohmann::json, 24>& Values() {
  static const std::array<nlohmann::json, 24> kValues{nullptr,
                                                      true,
                                                      false,
                                                      0,
                                                      1,
                                                      -1,
                                                      80,
                                                      65535,
                                                      65536,
                                                      INT32_MAX,
                                                      INT64_MAX,
                                                      INT64_MIN,
                                                      std::numeric_limits<uint64_t>::max(),
                                                      0.5,
                                                      -1e300,
                                                      1e18,
                                                      "",
                                                      "None",
                                                      "0s",
                                                      "100%",
                                                      nlohmann::json::array(),
                                                      nlohmann::json::object(),
                                                      nlohmann::json{nullptr, "a", 1},
                                                      nlohmann::json{{"name", "a"}, {"value", 1}}};
  return kValues;
}

// Every value within `root` and `root` itself, in order.
void Collect(nlohmann::json& root, std::vector<nlohmann::json*>& values) {
  values.push_back(&root);
  if (!root.is_structured()) return;
  for (auto& item : root)
    Collect(item, values);
}

}  // namespace

uint64_t Mutator::Below(uint64_t bound) {
  // splitmix64.
  state_ += 0x9e3779b97f4a7c15ULL;
  uint64_t mixed = state_;
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9ULL;
  mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebULL;
  return (mixed ^ (mixed >> 31)) % bound;
}

std::string Mutator::OddText() {
  const size_t length = kLengths[Below(kLengths.size())];
  // Of one piece as a rule, behind a beginning of another: what is cut then falls within it.
  std::string text(kPieces[Below(kPieces.size())]);
  std::string_view piece = kPieces[Below(kPieces.size())];
  const bool mixed = Below(4) == 0;
  while (text.size() < length) {
    if (mixed) piece = kPieces[Below(kPieces.size())];
    text += piece;
  }
  return text;
}

nlohmann::json Mutator::OddValue() {
  if (Below(2) == 0) return OddText();
  return Values()[Below(Values().size())];
}

void Mutator::MutateValue(nlohmann::json& root) {
  std::vector<nlohmann::json*> values;
  Collect(root, values);
  nlohmann::json& chosen = *values[Below(values.size())];
  const nlohmann::json other = *values[Below(values.size())];
  switch (Below(6)) {
    case 0:
      chosen = other;
      return;
    case 1:
      if (chosen.is_array() && !chosen.empty()) {
        // Many of one kind: bounds are counts too.
        const nlohmann::json item = chosen[Below(chosen.size())];
        for (uint64_t left = 1 + Below(Below(8) == 0 ? 2000 : 40); left > 0; --left)
          chosen.push_back(item);
        return;
      }
      break;
    case 2:
      if (chosen.is_object()) {
        for (uint64_t left = 1 + Below(20); left > 0; --left)
          chosen[OddText()] = OddValue();
        return;
      }
      break;
    case 3:
      if (chosen.is_structured() && !chosen.empty()) {
        auto gone = chosen.begin();
        std::advance(gone, static_cast<ptrdiff_t>(Below(chosen.size())));
        chosen.erase(gone);
        return;
      }
      break;
    default:
      break;
  }
  chosen = OddValue();
}

std::string Mutator::Json(const std::string& json) {
  nlohmann::json root = nlohmann::json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (root.is_discarded()) return Bytes(json);
  for (uint64_t left = 1 + Below(3); left > 0; --left)
    MutateValue(root);
  return root.dump();
}

std::string Mutator::Bytes(std::string text) {
  constexpr std::string_view kBytes = "{}[]\",:0\\ nu\x01\xc3\x80\xff";
  for (uint64_t left = 1 + Below(4); left > 0; --left) {
    const size_t at = Below(text.size() + 1);
    const char byte = Below(2) == 0 ? kBytes[Below(kBytes.size())] : static_cast<char>(Below(256));
    const uint64_t what = Below(4);
    if (what == 0 || at == text.size()) {
      text.insert(at, 1, byte);
    } else if (what == 1) {
      text[at] = byte;
    } else if (what == 2) {
      text.erase(at, 1 + Below(8));
    } else {
      text.insert(Below(text.size() + 1), text.substr(at, 1 + Below(32)));
    }
  }
  return text;
}

std::string Mutator::Any(const std::string& json) {
  return Below(8) == 0 ? Bytes(json) : Json(json);
}

void ThrowFor(uint64_t seed, std::string_view input, std::string_view what) {
  throw std::runtime_error("seed " + std::to_string(seed) + ": " + text::Message(what, 2000) +
                           "\ninput: " + text::Message(input, 2000));
}

}  // namespace pointsman::testing
