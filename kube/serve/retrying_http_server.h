// An HttpServer that begins to serve as soon as its port is free: the process before may still hold
// it, and what a program is there for must not wait for its metrics. kube-proxy does the same.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>

#include "kube/process/log_limit.h"
#include "kube/serve/http_server.h"

namespace pointsman::kube {

class RetryingHttpServer {
 public:
  // `server` has its routes and is not started; `what` names it in the log ("metrics"). Listens, or
  // else tries again every `period` until it can: that is logged once a minute.
  RetryingHttpServer(std::unique_ptr<HttpServer> server, std::string what,
                     std::chrono::milliseconds period = std::chrono::seconds(5));
  ~RetryingHttpServer();  // stops

  // Another program has its address, or had it at the last try.
  bool waits() const { return waits_; }
  const std::string& what() const { return what_; }

 private:
  bool TryStart();
  void Retry(std::stop_token stop);

  const std::unique_ptr<HttpServer> server_;
  const std::string what_;
  const std::chrono::milliseconds period_;
  LogLimit log_;
  std::atomic<bool> waits_ = false;
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::jthread thread_;
};

}  // namespace pointsman::kube
