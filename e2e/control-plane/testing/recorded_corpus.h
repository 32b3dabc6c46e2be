// What a real kube-apiserver answered to requests, as files of e2e/control-plane/corpus/: what is
// asked, what of an answer is kept, and in what an answer of another run may not differ.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "e2e/control-plane/testing/api_server_process.h"
#include "kube/http/transport.h"

namespace pointsman::e2e {

// What is the same in each run stays; in place of the rest stand names: "<uid>",
// "<resourceVersion>", "<time>" (with its form: "<time.micro>"), "<continue>", "<clusterIP>",
// "<random>" for the end of a generated name. Times before 2010 are those of requests and stay.
nlohmann::json Normalised(nlohmann::json body);

struct Difference {
  std::string at;    // JSON pointer into {status, contentType, …, body}
  std::string what;  // "recorded 404, now 200"
};

// "<any>" in `recorded` stands for any value. With `subset` an object may have fewer members, and a
// list of things that have a name fewer things, than was recorded; but no other ones. What a
// Status says in words is not compared: clients go by its code, its reason and its details.
std::vector<Difference> Differences(nlohmann::json recorded, nlohmann::json now, bool subset);

// Sends the requests of a scenario, in their order. Not thread-safe.
class CorpusPlayer {
 public:
  // `server` outlives this and has been started. `real`: it is a real kube-apiserver. Without
  // `managed_fields` answers lose theirs, which are larger than all the rest.
  CorpusPlayer(const ApiServerProcess& server, bool real, bool managed_fields)
      : server_(server), real_(real), managed_fields_(managed_fields) {}

  // Whether the step is for this server at all ("only": "own").
  bool IsFor(const nlohmann::ordered_json& step) const;
  // The answer, normalised, with what the step keeps of it. Remembers what the step captures for
  // the steps behind it. Throws std::runtime_error for a step that cannot be sent, and
  // kube::TransportError.
  nlohmann::json Play(const nlohmann::ordered_json& step);

 private:
  kube::Transport& TransportOf(const std::string& user);
  std::string Filled(std::string text) const;  // ${name} replaced
  kube::HttpRequest RequestOf(const nlohmann::ordered_json& step) const;

  const ApiServerProcess& server_;
  const bool real_;
  const bool managed_fields_;
  std::map<std::string, std::unique_ptr<kube::Transport>> transports_;  // by user
  std::map<std::string, std::string> captured_;
};

// The scenarios' files, by name.
std::vector<std::filesystem::path> CorpusFiles(const std::filesystem::path& directory);

}  // namespace pointsman::e2e
