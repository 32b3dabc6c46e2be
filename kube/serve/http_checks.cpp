#include "kube/serve/http_checks.h"

#include <sys/socket.h>

#include <boost/asio/io_context.hpp>
#include <unistd.h>

#include "base/unique_fd.h"
#include "kube/serve/http_connection.h"

namespace pointsman::kube {
namespace {

// More than a peer can have sent that was not read yet.
constexpr size_t kMostBytes = 100'000;

void CheckRequest(const ServedRequest& request) {
  for (const std::string* part : {&request.method, &request.path, &request.query}) {
    if (std::any_of(part->begin(), part->end(), [](unsigned char c) { return c <= ' '; }))
      throw std::logic_error("a handler gets white space within '" + *part + "'");
  }
  if (request.path.find('?') != std::string::npos)
    throw std::logic_error("a path with its query: " + request.path);
}

// What the server says to `bytes`, which come in two pieces, when the peer sends no more.
std::string Exchange(std::string_view bytes) {
  boost::asio::io_context context(1);
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) != 0) {
    throw std::system_error(errno, std::generic_category(), "socketpair");
  }
  const UniqueFd peer(ends[0]);
  const auto table = std::make_shared<ConnectionTable>(
      HttpLimits{.header = std::chrono::seconds(1), .answer = std::chrono::seconds(1)});
  std::vector<ServedRequest> requests;
  ServeConnection(boost::asio::ip::tcp::socket(context, boost::asio::ip::tcp::v4(), ends[1]),
                  net::ShareKey::Of(uint64_t{1}), table,
                  [&](const ServedRequest& request, const Respond& respond) {
                    requests.push_back(request);
                    respond({.body = request.method + " " + request.path + " " + request.query});
                  });
  const size_t half = bytes.size() / 2;
  std::string answer;
  for (const std::string_view piece : {bytes.substr(0, half), bytes.substr(half)}) {
    if (send(peer.get(), piece.data(), piece.size(), MSG_NOSIGNAL) < 0) break;  // it has ended it
    context.poll();
  }
  shutdown(peer.get(), SHUT_WR);
  context.run();  // until the connection is gone
  std::array<char, 4096> buffer{};
  for (ssize_t got = 0; (got = recv(peer.get(), buffer.data(), buffer.size(), 0)) > 0;)
    answer.append(buffer.data(), static_cast<size_t>(got));
  if (table->size() != 0) throw std::logic_error("a connection stays in the table");
  for (const ServedRequest& request : requests)
    CheckRequest(request);
  if (!requests.empty() && answer.empty())
    throw std::logic_error("a request that was answered, and no answer");
  return answer;
}

}  // namespace

void CheckHttpConnection(std::string_view bytes) {
  const std::string answer = Exchange(bytes.substr(0, kMostBytes));
  if (!answer.empty() && !answer.starts_with("HTTP/1."))
    throw std::logic_error("no HTTP: " + answer);
}

}  // namespace pointsman::kube
