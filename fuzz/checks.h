// What must hold for any bytes that come from outside, one function a reader of them. The same
// functions run over mutations of the corpus in fuzz_checks_test, and under libFuzzer
// (scripts/fuzz.sh).
#pragma once

#include <string_view>

namespace pointsman::fuzz {

// Each throws std::logic_error when what must hold does not. What a reader documents as its error
// for bad input is no finding; anything else that it throws comes out.

// A watch's events are the same, and so is the error, however the bytes arrive.
void CheckEventSplitter(std::string_view input);
// The same for a list's items.
void CheckListSplitter(std::string_view input);
// What is read as a duration is written so that it is read as the same.
void CheckDuration(std::string_view input);
// The same for times.
void CheckTime(std::string_view input);
// The same for addresses and prefixes, and a prefix contains its own address.
void CheckIpAddress(std::string_view input);
// Virtual servers and destinations of /proc/net/ip_vs are the same however the bytes arrive.
void CheckIpvsTable(std::string_view input);
// The same for persistence templates (/proc/net/ip_vs_conn).
void CheckIpvsTemplates(std::string_view input);

struct Check {
  std::string_view name;  // of its folder in fuzz/corpus, and of the program fuzz_<name>
  void (*run)(std::string_view input);
};

inline constexpr Check kChecks[] = {
    {"event_splitter", CheckEventSplitter},
    {"list_splitter", CheckListSplitter},
    {"duration", CheckDuration},
    {"time", CheckTime},
    {"ip_address", CheckIpAddress},
    {"ipvs_table", CheckIpvsTable},
    {"ipvs_templates", CheckIpvsTemplates},
};

}  // namespace pointsman::fuzz
