#include "kube/serve/retrying_http_server.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "kube/testing/eventually.h"

namespace pointsman::kube {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

sockaddr_in Loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

// A listening socket on a free port: the process before.
class Holder {
 public:
  Holder() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = Loopback(0);
    EXPECT_EQ(bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(listen(fd_.get(), 1), 0);
    socklen_t size = sizeof(address);
    EXPECT_EQ(getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
  }
  void Release() { fd_.Reset(); }
  int port() const { return port_; }

 private:
  UniqueFd fd_;
  int port_ = 0;
};

// What the port answers; "": nobody listens.
std::string Answer(int port) {
  const UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address = Loopback(port);
  std::string answer;
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
    const std::string_view request =
        "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    EXPECT_EQ(write(fd.get(), request.data(), request.size()),
              static_cast<ssize_t>(request.size()));
    std::array<char, 1024> buffer{};
    for (ssize_t got = 0; (got = read(fd.get(), buffer.data(), buffer.size())) > 0;)
      answer.append(buffer.data(), static_cast<size_t>(got));
  }
  return answer;
}

bool Serves(int port) {
  return Eventually([&] { return Answer(port).ends_with("\r\n\r\nok"); });
}

std::unique_ptr<HttpServer> ServerOn(int port) {
  auto server = std::make_unique<HttpServer>("127.0.0.1:" + std::to_string(port), 1);
  server->Handle("/healthz", [](const ServedRequest&) { return ServedResponse{.body = "ok"}; });
  return server;
}

TEST(RetryingHttpServer, ServesATakenAddressOnceItIsFree) {
  Holder holder;
  // Its maker does not wait for the port, which nothing frees meanwhile.
  RetryingHttpServer server(ServerOn(holder.port()), "test", milliseconds(20));
  const int port = holder.port();
  EXPECT_TRUE(server.waits());
  holder.Release();
  EXPECT_TRUE(Serves(port));
  EXPECT_TRUE(Eventually([&] { return !server.waits(); }));
}

TEST(RetryingHttpServer, ServesAFreeAddressAtOnce) {
  Holder holder;
  const int port = holder.port();
  holder.Release();
  // A period that this test does not live to see.
  RetryingHttpServer server(ServerOn(port), "test", std::chrono::hours(1));
  EXPECT_TRUE(Answer(port).ends_with("ok"));
}

TEST(RetryingHttpServer, CanBeEndedWhileItWaits) {
  Holder holder;
  EXPECT_TRUE(AtOnce([&] {
    const RetryingHttpServer server(ServerOn(holder.port()), "test", std::chrono::hours(1));
  }));
}

}  // namespace
}  // namespace pointsman::kube
