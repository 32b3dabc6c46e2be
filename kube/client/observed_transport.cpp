#include "kube/client/observed_transport.h"

#include <utility>

namespace pointsman::kube {
namespace {

using Clock = std::chrono::steady_clock;
using Observer = std::function<void(const RequestOutcome&)>;

// Tells of one request once, with no answer if nothing else was said before the end.
class Observed {
 public:
  Observed(const HttpRequest& request, const Observer& observer)
      : method_(request.method), observer_(observer) {}
  ~Observed() { Tell(0); }
  Observed(const Observed&) = delete;
  Observed& operator=(const Observed&) = delete;

  void Tell(int status) {
    if (!std::exchange(told_, true)) observer_({method_, status, Clock::now() - begin_});
  }

 private:
  const std::string& method_;
  const Observer& observer_;
  const Clock::time_point begin_ = Clock::now();
  bool told_ = false;
};

class ObservedTransport final : public Transport {
 public:
  ObservedTransport(std::shared_ptr<Transport> transport, Observer observer)
      : transport_(std::move(transport)), observer_(std::move(observer)) {}

  HttpResponse Send(const HttpRequest& request) override {
    Observed observed(request, observer_);
    HttpResponse response = transport_->Send(request);
    observed.Tell(response.status);
    return response;
  }

  HttpResponse Stream(const HttpRequest& request,
                      const std::function<bool(std::string_view)>& on_data,
                      std::stop_token stop) override {
    Observed observed(request, observer_);
    HttpResponse response = transport_->Stream(
        request,
        [&](std::string_view piece) {
          // Only the body of a 2xx answer comes here.
          observed.Tell(200);
          return on_data(piece);
        },
        std::move(stop));
    observed.Tell(response.status);
    return response;
  }

 private:
  const std::shared_ptr<Transport> transport_;
  const Observer observer_;
};

}  // namespace

std::unique_ptr<Transport> ObserveRequests(std::shared_ptr<Transport> transport,
                                           std::function<void(const RequestOutcome&)> observer) {
  return std::make_unique<ObservedTransport>(std::move(transport), std::move(observer));
}

}  // namespace pointsman::kube
