#include "kube/serve/retrying_http_server.h"

#include <spdlog/spdlog.h>

namespace pointsman::kube {

RetryingHttpServer::RetryingHttpServer(std::unique_ptr<HttpServer> server, std::string what,
                                       std::chrono::milliseconds period)
    : server_(std::move(server)), what_(std::move(what)), period_(period) {
  if (!TryStart()) {
    thread_ = std::jthread([this](std::stop_token stop) { Retry(std::move(stop)); });
  }
}

RetryingHttpServer::~RetryingHttpServer() {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
}

bool RetryingHttpServer::TryStart() {
  try {
    server_->Start();
    waits_ = false;
    return true;
  } catch (const std::runtime_error& error) {
    waits_ = true;
    if (log_.Happened()) {
      spdlog::error("{}: {}; trying again every {} s", what_, error.what(),
                    std::chrono::duration<double>(period_).count());
    }
  }
  return false;
}

void RetryingHttpServer::Retry(std::stop_token stop) {
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, stop, period_, [&stop] { return stop.stop_requested(); }) &&
         !stop.stop_requested()) {
    if (!TryStart()) continue;
    spdlog::info("{}: the address is free now and served", what_);
    return;
  }
}

}  // namespace pointsman::kube
