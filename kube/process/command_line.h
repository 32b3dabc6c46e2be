// Command lines as the programs of Kubernetes read them (github.com/spf13/pflag).
#pragma once

#include <optional>

#include <CLI/App.hpp>

namespace pointsman::kube {

// Whether underscores in a flag's name do for hyphens: k8s.io/component-base WordSepNormalizeFunc.
enum class Underscores : bool { kNo, kYes };

// Parses into `app`'s options, by pflag's rules where CLI11's are others: "--name=" is the empty
// value (CLI11 2.1.2 takes the next argument for it), and of an option with one value that is given
// twice the last counts. Prints help, version or an error and returns the exit code to end with;
// nullopt: go on.
std::optional<int> ParseCommandLine(CLI::App& app, int argc, const char* const* argv,
                                    Underscores underscores = Underscores::kNo);

}  // namespace pointsman::kube
