#include "kube/process/command_line.h"

#include <algorithm>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace pointsman::kube {
namespace {

std::string WithHyphens(std::string name) {
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

bool TakesValue(const CLI::App& app, const std::string& name) {
  const CLI::Option* const option = app.get_option_no_throw(name);
  return option != nullptr && option->get_items_expected_max() > 0;
}

// CLI11 would make 0 of it, and true of a flag's.
void RefuseEmpty(const CLI::Option& option, const std::string& name) {
  const std::string type = option.get_type_name();
  const bool number =
      type.starts_with("INT") || type.starts_with("UINT") || type.starts_with("FLOAT");
  if (number || option.get_items_expected_max() == 0) throw CLI::ConversionError("\"\"", name);
}

// Appends one argument, in two when it is "--name=value" of an option that takes a value: CLI11
// does not know an empty value from none.
void Append(const CLI::App& app, const std::string& argument, Underscores underscores,
            std::vector<std::string>& arguments) {
  if (!argument.starts_with("--")) {
    arguments.push_back(argument);
    return;
  }
  const size_t equals = argument.find('=');
  std::string name = argument.substr(0, equals);
  if (underscores == Underscores::kYes) name = WithHyphens(std::move(name));
  if (equals == std::string::npos) {
    arguments.push_back(std::move(name));
    return;
  }
  std::string value = argument.substr(equals + 1);
  const CLI::Option* const option = app.get_option_no_throw(name);
  if (option != nullptr && value.empty()) RefuseEmpty(*option, name);
  if (TakesValue(app, name)) {
    arguments.push_back(std::move(name));
    arguments.push_back(std::move(value));
  } else {
    arguments.push_back(name + "=" + value);
  }
}

}  // namespace

std::optional<int> ParseCommandLine(CLI::App& app, int argc, const char* const* argv,
                                    Underscores underscores) {
  for (CLI::Option* option : app.get_options()) {
    if (option->get_multi_option_policy() == CLI::MultiOptionPolicy::Throw &&
        option->get_items_expected_max() <= 1) {
      option->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    }
  }
  try {
    std::vector<std::string> arguments;
    bool ended = false;  // "--": no flags any more
    for (int i = 1; i < argc; ++i) {
      const std::string argument = argv[i];
      ended |= argument == "--";
      if (ended) {
        arguments.push_back(argument);
      } else {
        Append(app, argument, underscores, arguments);
        // What follows an option that takes a value is its value, whatever it looks like.
        if (argument.find('=') == std::string::npos && TakesValue(app, arguments.back()) &&
            i + 1 < argc) {
          arguments.emplace_back(argv[++i]);
        }
      }
    }
    std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the back
    app.parse(std::move(arguments));
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
  return std::nullopt;
}

}  // namespace pointsman::kube
