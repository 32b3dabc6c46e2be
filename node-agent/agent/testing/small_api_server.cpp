#include "node-agent/agent/testing/small_api_server.h"

#include <charconv>

namespace pointsman::agent::testing {
namespace {

using kube::Json;

// Bookmarks come so often: a watch whose client is gone is noticed.
constexpr std::chrono::milliseconds kBookmarks{200};

std::string KeyOf(const std::string& ns, const std::string& name) {
  return ns + "/" + name;
}

std::string KeyOf(const Json& object) {
  const Json& metadata = object.at("metadata");
  return KeyOf(metadata.value("namespace", ""), metadata.value("name", ""));
}

// "/apis/pointsman.io/v1alpha1/nodeproxies/node-1/status" -> {"nodeproxies", "node-1", "status"};
// namespaces are left out.
std::vector<std::string> PartsOf(const std::string& path) {
  std::vector<std::string> parts;
  for (size_t begin = 1; begin <= path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    parts.push_back(path.substr(begin, end - begin));
    begin = end + 1;
  }
  const size_t skip = parts.empty() ? 0 : parts[0] == "api" ? 2 : 3;
  parts.erase(parts.begin(), parts.begin() + static_cast<long>(std::min(skip, parts.size())));
  if (parts.size() > 2 && parts[0] == "namespaces") parts.erase(parts.begin(), parts.begin() + 2);
  return parts;
}

std::string Failure(int code, const std::string& reason) {
  return Json{{"kind", "Status"}, {"apiVersion", "v1"}, {"status", "Failure"},
              {"reason", reason}, {"message", reason},  {"code", code}}
      .dump();
}

size_t VersionIn(const std::string& target) {
  const std::string name = "resourceVersion=";
  const size_t at = target.find(name);
  size_t version = 0;
  if (at != std::string::npos) {
    std::from_chars(target.data() + at + name.size(), target.data() + target.size(), version);
  }
  return version;
}

}  // namespace

SmallApiServer::SmallApiServer()
    : authority_("CA"), certificate_(authority_.Issue("server", "IP:127.0.0.1")) {
  server_ = Listen(0);
  port_ = server_->port();
}

SmallApiServer::~SmallApiServer() {
  GoAway();
}

std::unique_ptr<kube::TestServer> SmallApiServer::Listen(int port) {
  kube::TestServer::Options options;
  options.certificate = certificate_;
  options.port = port;
  return std::make_unique<kube::TestServer>(
      options, [this](const auto& request, auto& reply) { Serve(request, reply); });
}

kube::Config SmallApiServer::ClientConfig() const {
  kube::Config config;
  config.server = "https://127.0.0.1:" + std::to_string(port_);
  config.ca_pem = authority_.ca_pem();
  return config;
}

void SmallApiServer::Store(const std::string& plural, Json object) {
  Json& place = objects_[plural][KeyOf(object)];
  const bool fresh = place.is_null();
  object["metadata"]["resourceVersion"] = std::to_string(events_.size() + 1);
  if (fresh) object["metadata"]["uid"] = plural + "-" + std::to_string(events_.size() + 1);
  if (!fresh) object["metadata"]["uid"] = place["metadata"]["uid"];
  place = object;
  events_.push_back({fresh ? "ADDED" : "MODIFIED", plural, std::move(object)});
  changed_.notify_all();
}

void SmallApiServer::Put(const std::string& plural, Json object) {
  const std::lock_guard lock(mutex_);
  Store(plural, std::move(object));
}

void SmallApiServer::Remove(const std::string& plural, const std::string& ns,
                            const std::string& name) {
  const std::lock_guard lock(mutex_);
  auto& objects = objects_[plural];
  const auto found = objects.find(KeyOf(ns, name));
  if (found == objects.end()) return;
  Json object = std::move(found->second);
  objects.erase(found);
  object["metadata"]["resourceVersion"] = std::to_string(events_.size() + 1);
  events_.push_back({"DELETED", plural, std::move(object)});
  changed_.notify_all();
}

Json SmallApiServer::Get(const std::string& plural, const std::string& ns,
                         const std::string& name) const {
  const std::lock_guard lock(mutex_);
  const auto objects = objects_.find(plural);
  if (objects == objects_.end()) return nullptr;
  const auto found = objects->second.find(KeyOf(ns, name));
  return found == objects->second.end() ? Json(nullptr) : found->second;
}

void SmallApiServer::GoAway() {
  {
    const std::lock_guard lock(mutex_);
    away_ = true;
    changed_.notify_all();
  }
  server_.reset();
}

void SmallApiServer::ComeBack() {
  {
    const std::lock_guard lock(mutex_);
    away_ = false;
  }
  server_ = Listen(port_);
}

void SmallApiServer::CutWatches() {
  const std::lock_guard lock(mutex_);
  ++watch_generation_;
  changed_.notify_all();
}

void SmallApiServer::AnswerLists(const std::string& plural, int status) {
  const std::lock_guard lock(mutex_);
  list_answers_[plural] = status;
}

size_t SmallApiServer::lists(const std::string& plural) const {
  const std::lock_guard lock(mutex_);
  const auto found = lists_.find(plural);
  return found == lists_.end() ? 0 : found->second;
}

size_t SmallApiServer::status_writes() const {
  const std::lock_guard lock(mutex_);
  return status_writes_;
}

void SmallApiServer::Serve(const kube::TestServer::Request& request,
                           kube::TestServer::Reply& reply) {
  const std::string path = request.target.substr(0, request.target.find('?'));
  const std::vector<std::string> parts = PartsOf(path);
  if (request.method == "GET" && parts.empty()) {
    reply.Json(200, Json{{"resources", {{{"name", "endpointslices"}}}}}.dump());
  } else if (request.method == "GET" && parts.size() == 1) {
    request.TargetHas("watch=true") ? Watch(parts[0], request.target, reply)
                                    : List(parts[0], reply);
  } else if (request.method == "PATCH" && parts.size() == 3 && parts[2] == "status") {
    PatchStatus(request, path, reply);
  } else if (request.method == "POST" && !parts.empty() && parts[0] == "events") {
    reply.Json(201, request.body);
  } else {
    reply.Json(404, Failure(404, "NotFound"));
  }
}

void SmallApiServer::List(const std::string& plural, kube::TestServer::Reply& reply) {
  std::unique_lock lock(mutex_);
  ++lists_[plural];
  if (const auto answer = list_answers_.find(plural);
      answer != list_answers_.end() && answer->second != 0) {
    const int status = answer->second;
    lock.unlock();
    reply.Json(status, Failure(status, "TooManyRequests"));
    return;
  }
  Json items = Json::array();
  for (const auto& [key, object] : objects_[plural])
    items.push_back(object);
  const Json list = {{"metadata", {{"resourceVersion", std::to_string(events_.size())}}},
                     {"items", std::move(items)}};
  lock.unlock();
  reply.Json(200, list.dump());
}

void SmallApiServer::Watch(const std::string& plural, const std::string& target,
                           kube::TestServer::Reply& reply) {
  size_t next = VersionIn(target);
  if (!reply.Begin(200)) return;
  std::unique_lock lock(mutex_);
  const size_t generation = watch_generation_;
  while (!away_ && generation == watch_generation_) {
    std::string text;
    for (; next < events_.size(); ++next) {
      const Event& event = events_[next];
      if (event.plural != plural) continue;
      text += Json{{"type", event.type}, {"object", event.object}}.dump() + "\n";
    }
    if (text.empty() && !changed_.wait_for(lock, kBookmarks, [&] {
          return away_ || generation != watch_generation_ || next < events_.size();
        })) {
      text = Json{{"type", "BOOKMARK"},
                  {"object", {{"metadata", {{"resourceVersion", std::to_string(next)}}}}}}
                 .dump() +
             "\n";
    }
    if (text.empty()) continue;
    lock.unlock();
    const bool there = reply.Chunk(text);
    lock.lock();
    if (!there) return;
  }
  lock.unlock();
  reply.End();
}

void SmallApiServer::PatchStatus(const kube::TestServer::Request& request, const std::string& path,
                                 kube::TestServer::Reply& reply) {
  const std::vector<std::string> parts = PartsOf(path);
  std::unique_lock lock(mutex_);
  const auto& objects = objects_[parts[0]];
  const auto found = objects.find(KeyOf("", parts[1]));
  if (found == objects.end()) {
    lock.unlock();
    reply.Json(404, Failure(404, "NotFound"));
    return;
  }
  Json object = found->second;
  object.merge_patch(Json::parse(request.body));
  ++status_writes_;
  Store(parts[0], object);
  lock.unlock();
  reply.Json(200, object.dump());
}

}  // namespace pointsman::agent::testing
