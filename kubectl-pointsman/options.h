// The command line.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <CLI/App.hpp>

#include "kube/pointsman/mode.h"

namespace pointsman::plugin {

enum class Output : uint8_t { kText, kWide, kJson, kYaml };

struct Options {
  std::string command;  // "status", …
  std::string kubeconfig;
  std::string context;
  std::string name;  // of the ProxyConfiguration; "": the only one
  std::string ns = "pointsman-system";
  Output output = Output::kText;

  bool watch = false;
  bool once = false;
  bool each_node = false;
  std::chrono::nanoseconds timeout{0};  // 0: none

  std::optional<kube::Mode> mode;
  std::vector<std::string> nodes;
  bool ask = false;

  std::string file;
  std::optional<int64_t> to;
  bool undo = false;
  std::string node;
  std::string service;  // "": all
  bool yes = false;
  std::string shell;
};

// A line of help or an error for people has been printed, and the program is to end with this.
struct Ended {
  int code = 0;
};

// The commands with their options, which write to `options`; it outlives the App.
std::unique_ptr<CLI::App> MakeApp(Options& options);
// Throws Ended.
Options ParseOptions(int argc, const char* const* argv);

}  // namespace pointsman::plugin
