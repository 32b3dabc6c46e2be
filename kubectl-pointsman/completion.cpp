#include "kubectl-pointsman/completion.h"

#include <algorithm>
#include <memory>

#include <CLI/CLI.hpp>

#include "kubectl-pointsman/options.h"

namespace pointsman::plugin {
namespace {

constexpr std::string_view kBash = R"(# kubectl-pointsman completion bash
_kubectl_pointsman() {
  local out word files=no
  local current="${COMP_WORDS[COMP_CWORD]}"
  out=$(kubectl-pointsman __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null) || return
  [ "$current" = "=" ] && current=""
  COMPREPLY=()
  while IFS= read -r word; do
    case "$word" in
      :0) files=yes ;;
      :*) ;;
      *) COMPREPLY+=("$word") ;;
    esac
  done <<< "$out"
  if [ "$files" = yes ]; then
    while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -f -- "$current")
  fi
}
complete -F _kubectl_pointsman kubectl-pointsman
)";

constexpr std::string_view kZsh = R"(#compdef kubectl-pointsman
# kubectl-pointsman completion zsh
_kubectl_pointsman() {
  local -a answers found
  local word files=no
  answers=("${(@f)$(kubectl-pointsman __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  for word in "${answers[@]}"; do
    case "$word" in
      :0) files=yes ;;
      :*) ;;
      *) found+=("$word") ;;
    esac
  done
  compadd -a found
  [ "$files" = yes ] && _files
}
compdef _kubectl_pointsman kubectl-pointsman
# As a file _kubectl-pointsman in $fpath it is read when a completion is asked for.
if [ "$funcstack[1]" = "_kubectl-pointsman" ]; then
  _kubectl_pointsman
fi
)";

constexpr std::string_view kFish = R"(# kubectl-pointsman completion fish
function __kubectl_pointsman_complete
  set -l words (commandline -opc)
  set -e words[1]
  for word in (kubectl-pointsman __complete $words (commandline -ct) 2>/dev/null)
    switch $word
      case ':0'
        __fish_complete_path (commandline -ct)
      case ':*'
      case '*'
        echo $word
    end
  end
end
complete -c kubectl-pointsman -f -a '(__kubectl_pointsman_complete)'
)";

constexpr std::string_view kKubectl = R"(#!/bin/sh
# kubectl asks a program of this name what can follow `kubectl pointsman`.
exec kubectl-pointsman __complete "$@"
)";

bool TakesValue(const CLI::Option& option) {
  return option.get_items_expected_max() > 0;
}

// Of the command, or of those around it.
const CLI::Option* FindOption(const CLI::App* command, const std::string& name) {
  for (; command != nullptr; command = command->get_parent()) {
    if (const CLI::Option* const option = command->get_option_no_throw(name)) return option;
  }
  return nullptr;
}

std::vector<std::string> OptionNames(const CLI::App* command) {
  std::vector<std::string> names;
  for (; command != nullptr; command = command->get_parent()) {
    for (const CLI::Option* const option : command->get_options()) {
      for (const std::string& name : option->get_lnames())
        names.push_back("--" + name);
    }
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

void KeepBeginningWith(std::string_view typed, std::vector<std::string>& words) {
  std::erase_if(words, [&](const std::string& word) { return !word.starts_with(typed); });
}

class Walker {
 public:
  Walker(const CLI::App& app, const Completer& completer) : command_(&app), completer_(completer) {}

  Completion Run(const std::vector<std::string>& words) {
    for (size_t i = 0; i + 1 < words.size(); ++i)
      Pass(words[i]);
    return Last(words.empty() ? "" : words.back());
  }

 private:
  void Pass(const std::string& word) {
    if (word == "=" && option_ != nullptr) return;  // bash cuts --name=value in three
    if (option_ != nullptr) {
      option_ = nullptr;
    } else if (word.starts_with("-")) {
      const CLI::Option* const option = FindOption(command_, word);
      if (option != nullptr && TakesValue(*option)) option_ = option;
    } else if (const CLI::App* const command = Subcommand(word); command != nullptr) {
      command_ = command;
    } else {
      ++arguments_;
    }
  }

  const CLI::App* Subcommand(const std::string& name) const {
    for (const CLI::App* const command :
         command_->get_subcommands([](const CLI::App*) { return true; })) {
      if (command->get_name() == name) return command;
    }
    return nullptr;
  }

  Completion Last(const std::string& typed) {
    if (option_ != nullptr) return Values(*option_, "", typed == "=" ? "" : typed);
    const size_t equals = typed.find('=');
    if (typed.starts_with("--") && equals != std::string::npos) {
      const CLI::Option* const option = FindOption(command_, typed.substr(0, equals));
      if (option == nullptr) return {};
      return Values(*option, typed.substr(0, equals + 1), typed.substr(equals + 1));
    }
    Completion completion;
    if (typed.starts_with("-")) {
      completion.words = OptionNames(command_);
    } else if (command_->get_parent() == nullptr) {
      for (const CLI::App* const command :
           command_->get_subcommands([](const CLI::App*) { return true; }))
        completion.words.push_back(command->get_name());
    } else if (TakesNode() && arguments_ == 0) {
      completion.words = completer_.nodes();
    } else if (command_->get_name() == "services" && arguments_ == 1) {
      completion.words = completer_.services();
    } else if (command_->get_name() == "completion" && arguments_ == 0) {
      completion.words = {"bash", "fish", "kubectl", "zsh"};
    }
    KeepBeginningWith(typed, completion.words);
    return completion;
  }

  bool TakesNode() const {
    return command_->get_name() == "explain" || command_->get_name() == "services";
  }

  // `before`: what is typed already of the same word.
  Completion Values(const CLI::Option& option, std::string before, std::string typed) const {
    Completion completion;
    const std::string name = option.get_lnames().empty() ? "" : option.get_lnames().front();
    if (name == "filename" || name == "kubeconfig") {
      completion.files = before.empty();
    } else if (name == "mode" || (name == "to" && command_->get_name() == "migrate")) {
      completion.words = {"iptables", "ipvs", "nftables", "userspace"};
    } else if (name == "output") {
      completion.words = {"json", "wide", "yaml"};
      if (command_->get_name() != "status" && command_->get_name() != "preflight")
        std::erase(completion.words, "wide");
    } else if (name == "name") {
      completion.words = completer_.configurations();
    } else if (name == "nodes") {
      completion.words = completer_.nodes();
      // NAME,NAME
      if (const size_t comma = typed.rfind(','); comma != std::string::npos) {
        before += typed.substr(0, comma + 1);
        typed.erase(0, comma + 1);
      }
    }
    KeepBeginningWith(typed, completion.words);
    for (std::string& word : completion.words)
      word.insert(0, before);
    return completion;
  }

  const CLI::App* command_;
  const Completer& completer_;
  const CLI::Option* option_ = nullptr;  // whose value comes next
  int arguments_ = 0;
};

}  // namespace

Completion Complete(const std::vector<std::string>& words, const Completer& completer) {
  Options options;
  const std::unique_ptr<CLI::App> app = MakeApp(options);
  return Walker(*app, completer).Run(words);
}

std::string CompletionAnswer(const Completion& completion) {
  // cobra's ShellCompDirective: 4 no names of files, 0 those too.
  std::string text;
  for (const std::string& word : completion.words)
    text += word + "\n";
  return text + (completion.files ? ":0\n" : ":4\n");
}

std::string_view CompletionScript(std::string_view shell) {
  if (shell == "bash") return kBash;
  if (shell == "zsh") return kZsh;
  if (shell == "fish") return kFish;
  return kKubectl;
}

}  // namespace pointsman::plugin
