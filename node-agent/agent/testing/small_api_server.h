// For tests: the little of a Kubernetes API server that an agent needs, with lists and watches over
// real connections. It can go away, refuse, and cut its watches.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "kube/client/client.h"
#include "kube/http/test_server.h"

namespace pointsman::agent::testing {

// Thread-safe.
class SmallApiServer {
 public:
  SmallApiServer();
  ~SmallApiServer();
  SmallApiServer(const SmallApiServer&) = delete;
  SmallApiServer& operator=(const SmallApiServer&) = delete;

  // For the agent; the same after GoAway.
  kube::Config ClientConfig() const;

  // Adds or changes; `plural` as in URLs: "services".
  void Put(const std::string& plural, kube::Json object);
  void Remove(const std::string& plural, const std::string& ns, const std::string& name);
  // A copy; null: there is none.
  kube::Json Get(const std::string& plural, const std::string& ns, const std::string& name) const;

  // Closes its port and all connections, until ComeBack.
  void GoAway();
  void ComeBack();
  // Ends each watch that is open.
  void CutWatches();
  // Lists of `plural` are answered with `status`; 0: as they should be.
  void AnswerLists(const std::string& plural, int status);

  // Of the agent.
  size_t lists(const std::string& plural) const;
  size_t status_writes() const;

 private:
  struct Event {
    std::string type;
    std::string plural;
    kube::Json object;
  };
  void Serve(const kube::TestServer::Request& request, kube::TestServer::Reply& reply);
  void List(const std::string& plural, kube::TestServer::Reply& reply);
  void Watch(const std::string& plural, const std::string& target, kube::TestServer::Reply& reply);
  void PatchStatus(const kube::TestServer::Request& request, const std::string& path,
                   kube::TestServer::Reply& reply);
  void Store(const std::string& plural, kube::Json object);  // with mutex_ held
  std::unique_ptr<kube::TestServer> Listen(int port);

  const kube::TestAuthority authority_;
  const kube::TestCertificate certificate_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::map<std::string, kube::Json>> objects_;  // by plural, "ns/name"
  std::vector<Event> events_;                                         // the n-th made version n + 1
  std::map<std::string, int> list_answers_;
  std::map<std::string, size_t> lists_;
  size_t status_writes_ = 0;
  size_t watch_generation_ = 0;
  bool away_ = false;
  int port_ = 0;
  std::unique_ptr<kube::TestServer> server_;  // last: its threads use all of the above
};

}  // namespace pointsman::agent::testing
