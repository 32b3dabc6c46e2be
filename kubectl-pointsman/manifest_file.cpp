#include "kubectl-pointsman/manifest_file.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <functional>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "kube/config/yaml_json.h"
#include "kube/pointsman/limits.h"
#include "kube/pointsman/validation.h"
#include "kube/text/text.h"
#include "kubectl-pointsman/exit_code.h"

namespace pointsman::plugin {
namespace {

using nlohmann::json;

constexpr size_t kMostOfFile = 1024UL * 1024;
constexpr size_t kMostErrors = 20;

struct Part {
  std::string_view text;
  int first_line = 1;
};

// As Kubernetes' reader: a line that begins with "---" ends a document, unless something but a
// comment stands behind it.
std::vector<Part> Documents(std::string_view text) {
  std::vector<Part> parts;
  size_t begin = 0;
  int first_line = 1;
  int line = 1;
  for (size_t at = 0; at < text.size(); ++line) {
    size_t end = text.find('\n', at);
    if (end == std::string_view::npos) end = text.size();
    const std::string_view words = text.substr(at, end - at);
    if (words.starts_with("---")) {
      const std::string_view rest = text::TrimSpace(words.substr(3));
      if (rest.empty() || rest.front() == '#') {
        parts.push_back({text.substr(begin, at - begin), first_line});
        begin = std::min(end + 1, text.size());
        first_line = line + 1;
      }
    }
    at = end + 1;
  }
  parts.push_back({text.substr(begin), first_line});
  return parts;
}

// Nothing but comments.
bool IsEmpty(std::string_view text) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text::TrimSpace(text.substr(0, end));
    if (!line.empty() && line.front() != '#') return false;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return true;
}

std::string Word(const json& object, const char* key) {
  const auto member = object.find(key);
  return member != object.end() && member->is_string() ? member->get<std::string>() : "";
}

class Reader {
 public:
  Reader(std::string file, std::vector<std::string>& others)
      : file_(std::move(file)), others_(others) {}

  void Read(const Part& part) {
    kube::YamlDocument document;
    try {
      document = kube::ParseYaml(part.text);
    } catch (const std::invalid_argument& error) {
      Error(part.first_line, fmt::format("from this line on: {}", error.what()));
      return;
    }
    const auto line_of = [&](const std::string& path) {
      return std::max(document.LineOf(path), 1) + part.first_line - 1;
    };
    for (const auto& [path, line] : document.duplicates)
      Error(line + part.first_line - 1, path + ": is there twice");
    Take(document.value, "", line_of);
  }

  std::vector<Manifest> Finish() {
    if (manifests_.empty() && errors_.empty())
      errors_.push_back(file_ + ": there is no ProxyConfiguration in it");
    if (errors_.empty()) return std::move(manifests_);
    std::string text;
    for (size_t i = 0; i < std::min(errors_.size(), kMostErrors); ++i)
      text += (i == 0 ? "" : "\n") + errors_[i];
    if (errors_.size() > kMostErrors)
      text += fmt::format("\nand {} more", errors_.size() - kMostErrors);
    throw Failure(ExitCode::kError, text);
  }

 private:
  using LineOf = std::function<int(const std::string& path)>;

  void Error(int line, const std::string& message) {
    errors_.push_back(fmt::format("{}:{}: {}", file_, line, message));
  }

  void Take(const json& object, const std::string& path, const LineOf& line_of) {
    if (!object.is_object()) {
      Error(line_of(path), "is no object of the API");
      return;
    }
    const std::string kind = Word(object, "kind");
    if (kind == "List" && object.contains("items") && object.at("items").is_array()) {
      for (size_t i = 0; i < object.at("items").size(); ++i)
        Take(object.at("items").at(i),
             fmt::format("{}items[{}]", path.empty() ? "" : path + ".", i), line_of);
      return;
    }
    if (kind.empty()) {
      Error(line_of(path), "kind: is needed");
    } else if (kind != "ProxyConfiguration") {
      others_.push_back(kind);
    } else {
      TakeConfiguration(object, path.empty() ? "" : path + ".", line_of);
    }
  }

  void TakeConfiguration(const json& object, const std::string& prefix, const LineOf& line_of) {
    const size_t before = errors_.size();
    const std::string version = Word(object, "apiVersion");
    if (version != "pointsman.io/v1alpha1")
      Error(line_of(prefix + "apiVersion"),
            "apiVersion: must be pointsman.io/v1alpha1, is " + text::Quote(version));
    const auto metadata = object.find("metadata");
    const std::string name =
        metadata != object.end() && metadata->is_object() ? Word(*metadata, "name") : "";
    if (name.empty() || name.size() > kube::limits::kMaxConfigurationName)
      Error(line_of(prefix + "metadata.name"),
            fmt::format("metadata.name: is needed, with {} characters at most",
                        kube::limits::kMaxConfigurationName));
    for (const auto& [key, value] : object.items()) {
      if (key != "apiVersion" && key != "kind" && key != "metadata" && key != "spec" &&
          key != "status")
        Error(line_of(prefix + key), text::Escape(text::Shorten(key, 64)) + ": unknown field");
    }
    const auto spec = object.find("spec");
    const json none = json::object();
    for (const kube::FieldError& error :
         kube::ValidateProxyConfiguration(spec == object.end() ? none : *spec))
      Error(line_of(prefix + error.path), error.path + ": " + error.message);
    if (errors_.size() == before)
      manifests_.push_back(
          {object, fmt::format("{}:{}", file_, line_of(prefix + "metadata.name")), name});
  }

  const std::string file_;
  std::vector<std::string>& others_;
  std::vector<std::string> errors_;
  std::vector<Manifest> manifests_;
};

}  // namespace

std::vector<Manifest> ParseManifests(std::string_view text, const std::string& file,
                                     std::vector<std::string>& others) {
  Reader reader(file == "-" ? "standard input" : file, others);
  for (const Part& part : Documents(text)) {
    if (!IsEmpty(part.text)) reader.Read(part);
  }
  return reader.Finish();
}

std::string ReadManifestFile(const std::string& file) {
  UniqueFd opened;
  if (file != "-") opened = UniqueFd(open(file.c_str(), O_RDONLY | O_CLOEXEC));
  const int fd = file == "-" ? STDIN_FILENO : opened.get();
  const std::string name = file == "-" ? "standard input" : file;
  std::string text;
  std::array<char, 65536> buffer{};
  for (ssize_t got = 1; got != 0;) {
    got = fd < 0 ? -1 : read(fd, buffer.data(), buffer.size());
    if (got < 0 && fd >= 0 && errno == EINTR) continue;
    if (got < 0)
      throw Failure(ExitCode::kError,
                    name + ": cannot be read: " + std::generic_category().message(errno));
    text.append(buffer.data(), static_cast<size_t>(got));
    if (text.size() > kMostOfFile) throw Failure(ExitCode::kError, name + ": is larger than 1 MiB");
  }
  return text;
}

}  // namespace pointsman::plugin
