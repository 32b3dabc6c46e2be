#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <optional>
#include <sys/socket.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <cpprest/http_client.h>
#include <pplx/threadpool.h>
#include <spdlog/spdlog.h>

#include "kube/config/proxy_environment.h"
#include "kube/http/body_sink.h"
#include "kube/http/tls_settings.h"
#include "kube/http/tls_source.h"
#include "kube/http/token_source.h"
#include "kube/http/transport.h"
#include "kube/text/ascii.h"

#ifdef __SANITIZE_THREAD__
// libcpprest is not instrumented: ThreadSanitizer sees one end of its reference counts and calls it
// a race when a cancelled request's context is freed, or that context's registration with the
// cancellation token: the token gives its reference up in a header, which is instrumented, and the
// context in the library, whichever comes last frees it. Our own code stays checked.
extern "C" const char* __tsan_default_suppressions() {  // NOLINT(bugprone-reserved-identifier)
  return "race:pplx::details::_CancellationTokenCallback<web::http::client::details::asio_context\n"
         "race:web::http::client::details::asio_context::~asio_context\n"
         // The last one who holds a token's state ends it; who gave it back before did so within
         // the library.
         "race:pplx::details::_RefCounter::_Destroy\n"
         // A static of libspdlog's, which the first thread that logs makes.
         "race:spdlog::details::registry::registry";
}
#endif

namespace pointsman::kube {
namespace {

using Clock = std::chrono::steady_clock;
using OnData = std::function<bool(std::string_view)>;

// cpprestsdk starts 40 threads by default, each with its stack and malloc arena. What runs on them
// here never blocks: two are enough.
void StartThreadPoolOnce() {
  static const bool started = [] {
    crossplat::threadpool::initialize_with_threads(2);
    return true;
  }();
  static_cast<void>(started);
}

// A peer that vanished without a FIN (power loss, a dropped NAT entry) is noticed in 45 s: 30 s of
// silence, then three unanswered probes 5 s apart; unacknowledged data counts too.
void DetectDeadPeer(int socket) {
  const auto set = [socket](int level, int option, int value) {
    if (setsockopt(socket, level, option, &value, sizeof value) != 0) {
      spdlog::debug("setsockopt({}, {}): {}", level, option,
                    std::generic_category().message(errno));
    }
  };
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 30);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, 45'000);
}

// The requests of one transport that cpprestsdk still works on, also those that were given up.
class Unended {
 public:
  void Begin() {
    const std::lock_guard lock(mutex_);
    ++count_;
  }
  void End() {
    const std::lock_guard lock(mutex_);
    --count_;
    changed_.notify_all();
  }
  bool WaitForNone(std::chrono::milliseconds timeout) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, timeout, [this] { return count_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int count_ = 0;
};

// One request under way: what the calling thread and cpprestsdk's threads share.
struct Exchange {
  explicit Exchange(std::shared_ptr<Unended> all) : unended(std::move(all)) { unended->Begin(); }

  const std::shared_ptr<Unended> unended;
  std::mutex mutex;
  std::condition_variable changed;
  bool answered = false;  // status and headers are in `response`
  HttpResponse response;
  bool ended = false;
  std::exception_ptr error;
  const uint8_t* data = nullptr;  // a piece of the body that waits to be taken
  size_t size = 0;
  pplx::task_completion_event<size_t> taken;
  bool abandoned = false;  // nobody takes pieces any more: they are dropped
  Clock::time_point last_activity = Clock::now();

  void Offer(const uint8_t* bytes, size_t count, pplx::task_completion_event<size_t> event) {
    const std::lock_guard lock(mutex);
    if (abandoned) {
      event.set(count);
      return;
    }
    data = bytes;
    size = count;
    taken = std::move(event);
    last_activity = Clock::now();
    changed.notify_all();
  }

  void Answered(const web::http::http_response& answer) {
    const std::lock_guard lock(mutex);
    response.status = answer.status_code();
    for (const auto& [name, value] : answer.headers()) {
      response.headers.emplace_back(text::ToLowerAscii(name), value);
    }
    answered = true;
    last_activity = Clock::now();
    changed.notify_all();
  }

  void Ended(std::exception_ptr why) {
    {
      const std::lock_guard lock(mutex);
      ended = true;
      error = std::move(why);
      changed.notify_all();
    }
    unended->End();
  }

  bool Ready() const { return ended || (answered && data != nullptr); }
};

void CheckLine(std::string_view text, const char* what) {
  if (text.find_first_of(std::string_view("\r\n\0", 3)) != std::string_view::npos) {
    throw std::invalid_argument(std::string("HTTP ") + what + " with a line break or NUL");
  }
}

// The URL as cpprestsdk must be given it. It passes the host to getaddrinfo as it stands in the
// URL, which fails for an IPv6 address in brackets; its parser takes the address without them when
// a port follows. The Host header has to be right all the same: see HostHeader.
std::string UrlForCpprest(const std::string& server) {
  const size_t open = server.find("://[");
  const size_t close = server.find(']');
  if (open == std::string::npos || close == std::string::npos) return server;
  std::string rest = server.substr(close + 1);
  if (!rest.starts_with(':')) rest = (server.starts_with("https") ? ":443" : ":80") + rest;
  return server.substr(0, open + 3) + server.substr(open + 4, close - open - 4) + rest;
}

// The authority of the server's URL when it has an IPv6 address; else "": cpprestsdk makes it.
std::string HostHeader(const std::string& server) {
  const size_t open = server.find("://[");
  if (open == std::string::npos) return "";
  const std::string authority = server.substr(open + 3);
  return authority.substr(0, authority.find('/'));
}

// client-go goes through it.
void WarnOfEnvironmentProxy(const std::string& server) {
  const EnvironmentProxy proxy = FindEnvironmentProxy(server, [](const char* name) -> std::string {
    // Nothing in these programs changes the environment after the start.
    const char* const value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe)
    return value == nullptr ? "" : value;
  });
  if (proxy.variable.empty()) return;
  spdlog::warn(
      "{} is set and not used: {} is connected to without a proxy. Name it in NO_PROXY to say so",
      proxy.variable, server);
}

// cpprestsdk's client with its pool of connections, all made with the same TLS settings.
struct Connections {
  TlsSource::Settings tls;
  std::unique_ptr<web::http::client::http_client> client;
};

class CpprestTransport final : public Transport {
 public:
  CpprestTransport(const Config& config, size_t max_response_bytes,
                   std::chrono::milliseconds look_again_after)
      : server_(config.server),
        host_header_(HostHeader(config.server)),
        user_agent_(config.user_agent),
        max_response_bytes_(max_response_bytes),
        encrypted_(server_.starts_with("https://")),
        look_again_after_(look_again_after),
        tls_(config, encrypted_, look_again_after),
        tokens_(config.token, config.token_file) {
    has_token_ = encrypted_ && (!config.token.empty() || !config.token_file.empty());
    if (!encrypted_ && (!config.token.empty() || !config.token_file.empty())) {
      spdlog::warn("{} is not https: the token is not sent", server_);
    }
    WarnOfEnvironmentProxy(server_);
    StartThreadPoolOnce();
    connections_ = MakeConnections(tls_.Get());
  }

  // cpprestsdk's threads end with the program, whatever they have left to do then: a request that
  // was given up is still theirs.
  ~CpprestTransport() override {
    if (!unended_->WaitForNone(std::chrono::seconds(2))) {
      spdlog::debug("{}: a request that was given up did not end in 2 s", server_);
    }
  }
  CpprestTransport(const CpprestTransport&) = delete;
  CpprestTransport& operator=(const CpprestTransport&) = delete;

  HttpResponse Send(const HttpRequest& request) override {
    return Authorized(request, nullptr, {});
  }

  HttpResponse Stream(const HttpRequest& request, const OnData& on_data,
                      std::stop_token stop) override {
    return Authorized(request, &on_data, std::move(stop));
  }

 private:
  using Socket = boost::asio::ip::tcp::socket;
  using TlsStream = boost::asio::ssl::stream<Socket&>;

  // Called before a new connection has a socket, and again each time a kept one is used.
  static void OnTlsStream(TlsStream* stream) {
    TlsSettings::OnConnected(stream->native_handle(), stream, [](void* connected) {
      DetectDeadPeer(static_cast<TlsStream*>(connected)->next_layer().native_handle());
    });
  }

  std::shared_ptr<Connections> MakeConnections(TlsSource::Settings tls) const {
    web::http::client::http_client_config options;
    // The time limit is each request's own and kept by Exchange's waiter; cpprestsdk has but one
    // per client. This one only keeps a forgotten connection from living for ever.
    options.set_timeout(std::chrono::hours(24));
    options.set_max_redirects(0);             // a redirect would carry the token elsewhere
    options.set_tlsext_sni_enabled(false);    // TlsSettings does it, with the right name
    options.set_validate_certificates(true);  // TlsSettings decides, also for insecure
    options.set_ssl_context_callback(
        [tls](boost::asio::ssl::context& context) { tls->Apply(context.native_handle()); });
    options.set_nativehandle_options(
        [encrypted = encrypted_](web::http::client::native_handle handle) {
          if (encrypted) {
            OnTlsStream(static_cast<TlsStream*>(handle));
          } else if (auto* socket = static_cast<Socket*>(handle); socket->is_open()) {
            DetectDeadPeer(socket->native_handle());
          }
        });
    try {
      auto client = std::make_unique<web::http::client::http_client>(
          web::uri(UrlForCpprest(server_)), options);
      return std::make_shared<Connections>(Connections{std::move(tls), std::move(client)});
    } catch (const std::exception& e) {  // uri_exception, invalid_argument
      throw ConfigError("server " + server_ + ": " + e.what());
    }
  }

  // Those to use now. Others than before when a certificate was replaced: the idle ones of before
  // are closed with their last request's end.
  std::shared_ptr<Connections> CurrentConnections() {
    TlsSource::Settings tls = tls_.Get();
    const std::lock_guard lock(connections_mutex_);
    if (connections_->tls != tls) connections_ = MakeConnections(std::move(tls));
    return connections_;
  }

  HttpResponse Authorized(const HttpRequest& request, const OnData* on_data, std::stop_token stop) {
    const std::string token = has_token_ ? tokens_.Get() : "";
    const std::shared_ptr<Connections> connections = CurrentConnections();
    HttpResponse response = Run(*connections, request, token, on_data, stop);
    // A 401's body is in the response, never with on_data: nothing was handed out yet.
    if (response.status != 401) return response;
    const bool other_token = has_token_ && tokens_.Refused(token);
    const bool other_certificate = tls_.Failed(connections->tls);
    if (!other_token && !other_certificate) return response;
    return Run(*CurrentConnections(), request, has_token_ ? tokens_.Get() : "", on_data,
               std::move(stop));
  }

  web::http::http_request Message(const HttpRequest& request, const std::string& token) const {
    CheckLine(request.method, "method");
    CheckLine(request.target, "target");
    web::http::http_request message(request.method);
    try {
      message.set_request_uri(request.target);
    } catch (const web::uri_exception& e) {
      throw std::invalid_argument("HTTP target " + request.target + ": " + e.what());
    }
    std::string content_type = "application/json";
    for (const auto& [name, value] : request.headers) {
      CheckLine(name, "header name");
      CheckLine(value, "header value");
      if (name == "Content-Type") {
        content_type = value;
      } else {
        message.headers().add(name, value);
      }
    }
    if (!request.body.empty()) message.set_body(request.body, content_type);
    message.headers().add("User-Agent", user_agent_);
    if (!host_header_.empty()) message.headers().add("Host", host_header_);
    if (!token.empty()) {
      CheckLine(token, "token");
      message.headers().add("Authorization", "Bearer " + token);
    }
    return message;
  }

  // In a catch block of one of cpprestsdk's threads; what was caught is rethrown on the calling
  // one. That gets a copy: the task's own exception is freed on cpprestsdk's thread, by a reference
  // count inside libstdc++ that ThreadSanitizer does not see.
  static void Failed(Exchange& exchange) {
    try {
      throw;
    } catch (const web::http::http_exception& e) {
      exchange.Ended(std::make_exception_ptr(e));
    } catch (...) {
      exchange.Ended(std::current_exception());
    }
  }

  HttpResponse Run(const Connections& connections, const HttpRequest& request,
                   const std::string& token, const OnData* on_data, std::stop_token stop) {
    const Clock::time_point started = Clock::now();
    web::http::http_request message = Message(request, token);
    const auto exchange = std::make_shared<Exchange>(unended_);
    message.set_response_stream(
        concurrency::streams::ostream(concurrency::streams::streambuf<uint8_t>(
            std::make_shared<BodySink>([exchange](const uint8_t* data, size_t size,
                                                  pplx::task_completion_event<size_t> taken) {
              exchange->Offer(data, size, std::move(taken));
            }))));

    const pplx::cancellation_token_source cancel;
    connections.client->request(message, cancel.get_token())
        .then([exchange](const pplx::task<web::http::http_response>& answer) {
          try {
            const web::http::http_response response = answer.get();
            exchange->Answered(response);
            response.content_ready().then(
                [exchange](const pplx::task<web::http::http_response>& whole) {
                  try {
                    whole.get();
                    exchange->Ended(nullptr);
                  } catch (...) {
                    Failed(*exchange);
                  }
                });
          } catch (...) {
            Failed(*exchange);
          }
        });

    // Leaves the exchange to cpprestsdk's threads, which end it without us. What still comes is
    // dropped and not answered with an error: cpprestsdk waits, on one of its two threads, for the
    // other to close a stream that failed, for ever when that one does the same or the program
    // ends.
    const auto abandon = [&] {
      cancel.cancel();
      std::optional<pplx::task_completion_event<size_t>> waiting;
      size_t dropped = 0;
      {
        const std::lock_guard lock(exchange->mutex);
        exchange->abandoned = true;
        if (exchange->data != nullptr) waiting = exchange->taken;
        dropped = exchange->size;
        exchange->data = nullptr;
      }
      if (waiting) waiting->set(dropped);
    };
    try {
      HttpResponse response;
      if (!Consume(connections, *exchange, request, on_data, stop, response)) abandon();
      return response;
    } catch (const web::http::http_exception& e) {
      const std::string why = connections.tls->FailureSince(started);
      // What is in the files now may be what the server wants: the next attempt has it.
      if (!why.empty()) tls_.Failed(connections.tls);
      throw TransportError(Describe(request, e, why));
    } catch (...) {
      abandon();
      throw;
    }
  }

  // Takes status, headers and body on the calling thread. False when the body was not read to its
  // end because the caller wants no more.
  bool Consume(const Connections& connections, Exchange& exchange, const HttpRequest& request,
               const OnData* on_data, const std::stop_token& stop, HttpResponse& response) {
    const std::stop_callback wake(stop, [&exchange] {
      const std::lock_guard lock(exchange.mutex);
      exchange.changed.notify_all();
    });
    bool answered = false;
    for (;;) {
      if (answered && request.long_lived && IsOutdated(connections)) return false;
      std::string_view piece;
      {
        std::unique_lock lock(exchange.mutex);
        while (!exchange.Ready() && !stop.stop_requested()) {
          const Clock::time_point deadline = exchange.last_activity + request.timeout;
          if (Clock::now() >= deadline) {
            throw TransportTimeout(Name(request) + ": no byte from the server for " +
                                       std::to_string(request.timeout.count()) + " s",
                                   exchange.answered);
          }
          if (!exchange.answered || !request.long_lived) {
            exchange.changed.wait_until(lock, deadline);
          } else if (exchange.changed.wait_until(
                         lock, std::min(deadline, Clock::now() + look_again_after_)) ==
                     std::cv_status::timeout) {
            break;
          }
        }
        if (exchange.answered && !answered) {
          answered = true;
          response = std::move(exchange.response);
        }
        if (stop.stop_requested()) return false;
        if (!exchange.Ready()) continue;  // to look at the certificates
        if (exchange.data == nullptr) {
          if (exchange.error != nullptr) std::rethrow_exception(exchange.error);
          return true;
        }
        piece = {reinterpret_cast<const char*>(exchange.data), exchange.size};
      }
      if (on_data != nullptr && response.status >= 200 && response.status < 300) {
        if (!(*on_data)(piece)) return false;
      } else {
        CheckSize(request, response, piece.size());
        response.body.append(piece);
      }
      pplx::task_completion_event<size_t> taken;
      {
        const std::lock_guard lock(exchange.mutex);
        exchange.data = nullptr;
        exchange.last_activity = Clock::now();
        taken = exchange.taken;
      }
      taken.set(piece.size());
    }
  }

  // The server still takes them for the client of the certificate that was replaced.
  bool IsOutdated(const Connections& connections) {
    const TlsSource::Settings now = tls_.Get();
    return now != connections.tls && !now->HasClientOf(*connections.tls);
  }

  void CheckSize(const HttpRequest& request, HttpResponse& response, size_t more) const {
    if (more > max_response_bytes_ || response.body.size() > max_response_bytes_ - more) {
      throw TransportError(Name(request) + ": the answer is larger than " +
                           std::to_string(max_response_bytes_) + " bytes");
    }
    // Grows by doubling, but never past the bound.
    const size_t needed = response.body.size() + more;
    if (needed > response.body.capacity()) {
      response.body.reserve(std::min(std::max(needed, response.body.capacity() * 2),
                                     std::max(needed, max_response_bytes_)));
    }
  }

  std::string Name(const HttpRequest& request) const {
    return request.method + " " + server_ + request.target;
  }

  std::string Describe(const HttpRequest& request, const web::http::http_exception& e,
                       const std::string& why) const {
    std::string message = Name(request) + ": " + e.what();
    const int code = e.error_code().value();
    // cpprestsdk keeps the number of an error but not its category: 1 and 2 are Asio's "stream
    // truncated" and "end of file", and a refused connection is made one to an unreachable host.
    constexpr int kLastErrno = 133;  // beyond are OpenSSL's codes, which have no text here
    if (code == 1 || code == 2) {
      message += ": the server closed the connection";
    } else if (code == EHOSTUNREACH) {
      message += ": refused or unreachable";
    } else if (code > 0 && code <= kLastErrno) {
      message += ": " + std::generic_category().message(code);
    }
    if (!why.empty()) message += ": " + why;
    return message;
  }

  const std::string server_;
  const std::string host_header_;
  const std::string user_agent_;
  const size_t max_response_bytes_;
  const bool encrypted_;
  const std::chrono::milliseconds look_again_after_;
  TlsSource tls_;
  TokenSource tokens_;
  bool has_token_ = false;
  const std::shared_ptr<Unended> unended_ = std::make_shared<Unended>();
  std::mutex connections_mutex_;
  std::shared_ptr<Connections> connections_;
};

}  // namespace

std::string_view HttpResponse::Header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (key == name) return value;
  }
  return {};
}

std::unique_ptr<Transport> MakeTransport(const Config& config, size_t max_response_bytes,
                                         std::chrono::milliseconds look_again_after) {
  return std::make_unique<CpprestTransport>(config, max_response_bytes, look_again_after);
}

}  // namespace pointsman::kube
