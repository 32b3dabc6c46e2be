#include "e2e/control-plane/testing/recorded_corpus.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iterator>
#include <optional>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <string_view>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "kube/config/config.h"

namespace pointsman::e2e {
namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;
using nlohmann::literals::operator""_json_pointer;

constexpr std::chrono::seconds kAwaited{20};
constexpr std::chrono::milliseconds kAskAgain{50};

std::string NormalisedText(std::string text) {
  static const std::regex uid("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}");
  static const std::regex micro(R"(20[1-9]\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z)");
  static const std::regex second(R"(20[1-9]\d-\d\d-\d\dT\d\d:\d\d:\d\dZ)");
  static const std::regex cluster_ip(R"(\b10\.96\.\d{1,3}\.\d{1,3}\b)");
  static const std::regex version(R"((resource version: |current: |version: \d+ \()(\d+))");
  text = std::regex_replace(text, uid, "<uid>");
  text = std::regex_replace(text, micro, "<time.micro>");
  text = std::regex_replace(text, second, "<time>");
  text = std::regex_replace(text, cluster_ip, "<clusterIP>");
  return std::regex_replace(text, version, "$1<resourceVersion>");
}

void Normalise(Json& value) {
  if (value.is_string()) {
    value = NormalisedText(value.get<std::string>());
    return;
  }
  for (Json& member : value)
    if (member.is_structured() || member.is_string()) Normalise(member);
  if (!value.is_object()) return;
  const auto text = [&](const char* key) {
    const auto found = value.find(key);
    return found != value.end() && found->is_string() ? found->get<std::string>() : "";
  };
  if (const std::string version = text("resourceVersion"); !version.empty() && version != "0")
    value["resourceVersion"] = "<resourceVersion>";
  if (!text("continue").empty()) value["continue"] = "<continue>";
  const std::string generate = text("generateName");
  if (!generate.empty() && text("name").starts_with(generate))
    value["name"] = generate + "<random>";
  // Their order is that of their times, which are alike in one run and not in another.
  if (const auto managed = value.find("managedFields");
      managed != value.end() && managed->is_array())
    std::sort(managed->begin(), managed->end(),
              [](const Json& a, const Json& b) { return a.dump() < b.dump(); });
}

// Without what is worded for people, or has no order or no meaning for a client: the text of a
// failure and of its causes, help texts of columns, hashes of the server's own storage, members
// that are null.
void KeepMeaning(Json& value) {
  for (Json& member : value)
    if (member.is_structured()) KeepMeaning(member);
  if (!value.is_object()) return;
  if (value.contains("kind") && value["kind"] == "Status") value.erase("message");
  value.erase("storageVersionHash");
  if (value.contains("details") && value["details"] == Json::object()) value.erase("details");
  for (auto member = value.begin(); member != value.end();)
    member = member->is_null() ? value.erase(member) : std::next(member);
  const auto each = [&](const char* list, const char* text) {
    const auto found = value.find(list);
    if (found == value.end() || !found->is_array()) return;
    for (Json& element : *found)
      if (element.is_object()) element.erase(text);
    if (found.key() == "causes") std::sort(found->begin(), found->end());
  };
  each("causes", "message");
  each("columnDefinitions", "description");
  each("/columnDefinitions", "description");
  if (const auto verbs = value.find("verbs"); verbs != value.end() && verbs->is_array())
    std::sort(verbs->begin(), verbs->end());
}

// The text of a Status with causes is theirs once more.
void DropRepeatedText(Json& body) {
  if (body.is_object() && body.contains("/details/causes"_json_pointer)) body.erase("message");
}

void DropManagedFields(Json& value) {
  if (value.is_object()) value.erase("managedFields");
  for (Json& member : value)
    if (member.is_structured()) DropManagedFields(member);
}

std::string Short(const Json& value) {
  std::string text = value.dump();
  if (text.size() > 400) text = text.substr(0, 400) + "…";
  return text;
}

// What a list's elements are told apart by; nothing when it is no list of such.
std::optional<std::string> KeyOf(const Json& list) {
  for (const char* key : {"name", "groupVersion", "type"}) {
    const bool all = std::all_of(list.begin(), list.end(), [&](const Json& element) {
      return element.is_object() && element.contains(key);
    });
    if (all && !list.empty()) return key;
  }
  return std::nullopt;
}

class Comparison {
 public:
  explicit Comparison(bool subset) : subset_(subset) {}

  void Compare(const Json& recorded, const Json& now, const std::string& at) {
    if (recorded == "<any>" || recorded == now) return;
    if (recorded.is_object() && now.is_object()) return CompareObjects(recorded, now, at);
    if (recorded.is_array() && now.is_array()) {
      if (subset_) {
        if (const auto key = KeyOf(now); key && KeyOf(recorded) == key)
          return CompareNamed(recorded, now, at, *key);
      }
      if (recorded.size() == now.size()) {
        for (std::size_t i = 0; i < now.size(); ++i)
          Compare(recorded[i], now[i], fmt::format("{}/{}", at, i));
        return;
      }
    }
    Add(at, fmt::format("recorded {}, now {}", Short(recorded), Short(now)));
  }

  std::vector<Difference> Take() { return std::move(found_); }

 private:
  void CompareObjects(const Json& recorded, const Json& now, const std::string& at) {
    for (const auto& [key, value] : recorded.items()) {
      const std::string below = fmt::format("{}/{}", at, key);
      if (now.contains(key)) {
        Compare(value, now[key], below);
      } else if (!subset_) {
        Add(below, fmt::format("recorded {}, now absent", Short(value)));
      }
    }
    for (const auto& [key, value] : now.items()) {
      if (!recorded.contains(key))
        Add(fmt::format("{}/{}", at, key), fmt::format("recorded absent, now {}", Short(value)));
    }
  }

  void CompareNamed(const Json& recorded, const Json& now, const std::string& at,
                    const std::string& key) {
    for (const Json& element : now) {
      const auto same = std::find_if(recorded.begin(), recorded.end(), [&](const Json& candidate) {
        return candidate[key] == element[key];
      });
      const std::string below = fmt::format("{}/{}", at, element[key].get<std::string>());
      if (same == recorded.end()) {
        Add(below, fmt::format("recorded absent, now {}", Short(element)));
      } else {
        Compare(*same, element, below);
      }
    }
  }

  void Add(const std::string& at, std::string what) { found_.push_back({at, std::move(what)}); }

  const bool subset_;
  std::vector<Difference> found_;
};

std::string FileText(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) throw std::runtime_error("cannot be read: " + file.string());
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// JSON as it is; a watch's lines as a list, without the bookmarks that come by the clock; other
// text as a string.
Json BodyOf(const std::string& body, bool watch) {
  if (watch) {
    Json events = Json::array();
    std::istringstream lines(body);
    for (std::string line; std::getline(lines, line);) {
      Json event = Json::parse(line, nullptr, /*allow_exceptions=*/false);
      if (event.is_discarded()) throw std::runtime_error("a watch's line is no JSON: " + line);
      const bool bookmark = event.value("type", "") == "BOOKMARK";
      if (bookmark && line.find("k8s.io/initial-events-end") == std::string::npos) continue;
      events.push_back(std::move(event));
    }
    return events;
  }
  Json parsed = Json::parse(body, nullptr, /*allow_exceptions=*/false);
  return parsed.is_discarded() ? Json(body) : parsed;
}

// The values at the step's pointers alone, when it has such.
Json Kept(const OrderedJson& step, const Json& body) {
  if (!step.contains("keep")) return body;
  Json kept = Json::object();
  for (const auto& pointer : step["keep"]) {
    const Json::json_pointer at(pointer.get<std::string>());
    kept[pointer.get<std::string>()] = body.contains(at) ? body[at] : Json("<absent>");
  }
  return kept;
}

Json AnswerOf(const kube::HttpResponse& response, bool watch) {
  Json answer = {{"status", response.status},
                 {"contentType", std::string(response.Header("content-type"))},
                 {"body", BodyOf(response.body, watch && response.status == 200)}};
  if (const auto after = response.Header("retry-after"); !after.empty())
    answer["retryAfter"] = std::string(after);
  for (const auto& [name, value] : response.headers)
    if (name == "warning") answer["warnings"].push_back(value);
  return answer;
}

}  // namespace

Json Normalised(Json body) {
  Normalise(body);
  return body;
}

std::vector<Difference> Differences(Json recorded, Json now, bool subset) {
  KeepMeaning(recorded);
  KeepMeaning(now);
  Comparison comparison(subset);
  comparison.Compare(recorded, now, "");
  return comparison.Take();
}

bool CorpusPlayer::IsFor(const OrderedJson& step) const {
  return step.value("only", "") != (real_ ? "own" : "real");
}

kube::Transport& CorpusPlayer::TransportOf(const std::string& user) {
  auto& transport = transports_[user];
  if (!transport) {
    kube::Config config = kube::LoadKubeconfig(user == "admin" || user == "anonymous"
                                                   ? server_.AdminKubeconfig()
                                                   : server_.UserKubeconfig(user, user + "s"));
    if (user == "anonymous") {
      config.client_certificate_pem.clear();
      config.client_certificate_file.clear();
      config.client_key_pem.clear();
      config.client_key_file.clear();
    }
    transport = kube::MakeTransport(config);
  }
  return *transport;
}

std::string CorpusPlayer::Filled(std::string text) const {
  for (const auto& [name, value] : captured_) {
    const std::string placeholder = fmt::format("${{{}}}", name);
    // What was put in is not looked at again: it came from the server.
    for (auto at = text.find(placeholder); at != std::string::npos;
         at = text.find(placeholder, at + value.size()))
      text.replace(at, placeholder.size(), value);
  }
  if (const auto at = text.find("${"); at != std::string::npos)
    throw std::runtime_error("nothing captured: " + text.substr(at, 40));
  return text;
}

kube::HttpRequest CorpusPlayer::RequestOf(const OrderedJson& step) const {
  const OrderedJson& asked = step.at("request");
  kube::HttpRequest request;
  request.method = asked.at("method");
  request.target = Filled(asked.at("target"));
  if (asked.contains("bodyFile")) {
    request.body = FileText(std::filesystem::path(POINTSMAN_SOURCE_DIR) /
                            asked["bodyFile"].get<std::string>());
  } else if (asked.contains("body")) {
    const OrderedJson& body = asked["body"];
    request.body = Filled(body.is_string() ? body.get<std::string>() : body.dump());
  }
  const OrderedJson headers = asked.value("headers", OrderedJson::object());
  for (const auto& [name, value] : headers.items())
    request.headers.emplace_back(name, value.get<std::string>());
  const auto names = [&](const char* name) { return headers.contains(name); };
  if (!request.body.empty() && !names("Content-Type"))
    request.headers.emplace_back("Content-Type", "application/json");
  if (!names("Accept")) request.headers.emplace_back("Accept", "application/json");
  return request;
}

Json CorpusPlayer::Play(const OrderedJson& step) {
  const kube::HttpRequest request = RequestOf(step);
  kube::Transport& transport = TransportOf(step.value("as", "admin"));
  kube::HttpResponse response = transport.Send(request);
  if (const int awaited = step.value("await", 0); awaited != 0) {
    const auto deadline = std::chrono::steady_clock::now() + kAwaited;
    while (response.status != awaited && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(kAskAgain);
      response = transport.Send(request);
    }
  }
  Json answer = AnswerOf(response, request.target.find("watch=") != std::string::npos);
  const OrderedJson captures = step.value("capture", OrderedJson::object());
  for (const auto& [name, pointer] : captures.items()) {
    const Json::json_pointer at(pointer.get<std::string>());
    if (!answer["body"].contains(at) || !answer["body"][at].is_string())
      throw std::runtime_error(
          fmt::format("no {} in the answer {}", at.to_string(), answer.dump()));
    captured_[name] = answer["body"][at];
  }
  if (!managed_fields_) DropManagedFields(answer["body"]);
  DropRepeatedText(answer["body"]);
  answer["body"] = Kept(step, answer["body"]);
  answer = Normalised(std::move(answer));
  for (const auto& pointer : step.value("any", OrderedJson::array())) {
    const Json::json_pointer at("/body" + pointer.get<std::string>());
    if (answer.contains(at)) answer[at] = "<any>";
  }
  return answer;
}

std::vector<std::filesystem::path> CorpusFiles(const std::filesystem::path& directory) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(directory))
    if (entry.path().extension() == ".json" && entry.path().stem() != "allowed-differences")
      files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace pointsman::e2e
