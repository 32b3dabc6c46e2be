// For tests: the modes (mode_under_test.h), each with its kernel's tools.
#pragma once

#include <memory>

#include "node-agent/contract/mode_under_test.h"

namespace pointsman::agent::testing {

// Those that use iptables' tools get them afterwards.
std::unique_ptr<ModeUnderTest> MakeIptablesUnderTest();
std::unique_ptr<ModeUnderTest> MakeIpvsUnderTest();
std::unique_ptr<ModeUnderTest> MakeUserspaceUnderTest();
// Throws std::runtime_error.
std::unique_ptr<ModeUnderTest> MakeNftablesUnderTest();

}  // namespace pointsman::agent::testing
