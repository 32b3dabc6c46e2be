#include "node-agent/userspace/forwarder/udp_relay.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <unistd.h>

#include "base/unique_fd.h"

namespace pointsman::forwarder {
namespace {

constexpr size_t kBatch = 64;
constexpr size_t kDatagram = 65'536;
// Batches of one socket before others have their turn.
constexpr int kBatchesPerTurn = 8;
constexpr size_t kMaxTries = 8;
// Flows that end at about the same time end together.
constexpr std::chrono::milliseconds kSweepGrain{10};

// Where a datagram was sent to.
std::optional<net::IpAddress> DestinationOf(msghdr& header) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level == IPPROTO_IP && part->cmsg_type == IP_PKTINFO) {
      in_pktinfo info;
      std::memcpy(&info, CMSG_DATA(part), sizeof info);
      return net::IpAddress::FromBytes(&info.ipi_addr, 4);
    }
    if (part->cmsg_level == IPPROTO_IPV6 && part->cmsg_type == IPV6_PKTINFO) {
      in6_pktinfo info;
      std::memcpy(&info, CMSG_DATA(part), sizeof info);
      return net::IpAddress::FromBytes(&info.ipi6_addr, 16);
    }
  }
  return std::nullopt;
}

constexpr size_t kControl = CMSG_SPACE(sizeof(in6_pktinfo));

// Sends from `source`, a slot's address.
void SetSource(msghdr& header, char* control, const net::IpAddress& source) {
  header.msg_control = control;
  const bool v4 = source.is_v4();
  header.msg_controllen = v4 ? CMSG_SPACE(sizeof(in_pktinfo)) : CMSG_SPACE(sizeof(in6_pktinfo));
  std::memset(control, 0, header.msg_controllen);
  cmsghdr* part = CMSG_FIRSTHDR(&header);
  if (v4) {
    in_pktinfo info{};
    std::memcpy(&info.ipi_spec_dst, source.data(), 4);
    part->cmsg_level = IPPROTO_IP;
    part->cmsg_type = IP_PKTINFO;
    part->cmsg_len = CMSG_LEN(sizeof info);
    std::memcpy(CMSG_DATA(part), &info, sizeof info);
  } else {
    in6_pktinfo info{};
    std::memcpy(&info.ipi6_addr, source.data(), 16);
    part->cmsg_level = IPPROTO_IPV6;
    part->cmsg_type = IPV6_PKTINFO;
    part->cmsg_len = CMSG_LEN(sizeof info);
    std::memcpy(CMSG_DATA(part), &info, sizeof info);
  }
}

}  // namespace

// One batch, used by every socket in turn.
struct UdpRelay::Buffers {
  std::vector<char> data = std::vector<char>(kBatch * kDatagram);
  std::array<mmsghdr, kBatch> messages{};
  std::array<iovec, kBatch> pieces{};
  std::array<sockaddr_storage, kBatch> names{};
  alignas(cmsghdr) std::array<std::array<char, kControl>, kBatch> control{};
  std::array<mmsghdr, kBatch> out{};
  std::array<iovec, kBatch> out_pieces{};

  // Ready to receive with names and destinations, or (a connected socket) without.
  void Prepare(bool names_wanted) {
    for (size_t i = 0; i < kBatch; ++i) {
      pieces[i] = {data.data() + i * kDatagram, kDatagram};
      msghdr& header = messages[i].msg_hdr;
      header = {};
      header.msg_iov = &pieces[i];
      header.msg_iovlen = 1;
      if (!names_wanted) continue;
      header.msg_name = &names[i];
      header.msg_namelen = sizeof names[i];
      header.msg_control = control[i].data();
      header.msg_controllen = kControl;
    }
  }
  std::string_view Datagram(size_t i) const {
    return {data.data() + i * kDatagram, messages[i].msg_len};
  }
};

class UdpRelay::Listener final : public EventHandler {
 public:
  Listener(UdpRelay& relay, UniqueFd socket, net::Family family)
      : relay_(relay), socket_(std::move(socket)), family_(family) {
    if (!relay_.loop_.Add(socket_.get(), EPOLLIN, this)) {
      throw std::system_error(errno, std::generic_category(), "watch the UDP socket");
    }
  }
  ~Listener() override { relay_.loop_.Forget(this); }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  void OnEvents(uint32_t events) override;
  int fd() const { return socket_.get(); }
  net::Family family() const { return family_; }

 private:
  // Sends what the flows have in their queues.
  void Flush(std::span<Flow* const> flows);

  UdpRelay& relay_;
  UniqueFd socket_;
  const net::Family family_;
};

class UdpRelay::Flow final : public EventHandler {
 public:
  Flow(UdpRelay& relay, const Key& key, const Slot& slot, Listener& listener)
      : relay_(relay),
        key_(key),
        listener_(listener),
        share_(relay.shares_.Add(ShareOf(slot, key.client.ip), this)),
        last_(relay.loop_.now()) {
    Order& order = relay_.InPhase(phase_);
    place_ = order.insert(order.end(), this);
  }
  ~Flow() override { Retire(); }
  Flow(const Flow&) = delete;
  Flow& operator=(const Flow&) = delete;

  const Key& key() const { return key_; }
  Clock::time_point last() const { return last_; }
  const IpPort& backend() const { return backend_; }
  std::vector<uint32_t>& queue() { return queue_; }

  // Out of all lists, its socket closed.
  void Retire() {
    if (std::exchange(retired_, true)) return;
    Close();
    relay_.InPhase(phase_).erase(place_);
    relay_.shares_.Remove(share_);
  }
  net::FairShares<Flow>::Weight Weight() const { return relay_.shares_.WeightOf(share_); }

  // A socket to the next backend; false: there is none.
  bool Open() {
    Close();
    while (tried_.size() < kMaxTries) {
      const auto backend =
          relay_.table_.Choose(key_.slot, key_.client.ip, tried_, relay_.loop_.now());
      if (!backend) return false;
      backend_ = *backend;
      tried_.push_back(backend_);
      UniqueFd fd = OpenBackendSocket(backend_.ip.family(), true, relay_.mark_);
      if (!fd) return false;
      const sockaddr_storage address = ToSocketAddress(backend_.ip, backend_.port);
      if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address),
                    SocketAddressSize(backend_.ip)) == 0 &&
          relay_.loop_.Add(fd.get(), EPOLLIN, this)) {
        fd_ = std::move(fd);
        opened_ = relay_.loop_.now();
        return true;
      }
      relay_.table_.Failed(backend_, relay_.loop_.now());
    }
    return false;
  }

  // Sends what is in the queue: numbers of datagrams in the buffers. False: the flow is over.
  bool Send() {
    Buffers& buffers = *relay_.buffers_;
    const Clock::time_point now = relay_.loop_.now();
    if (!Answered() && now - opened_ >= kUnansweredTimeout && sent_ && !HasAffinity() &&
        tried_.size() < kMaxTries && !Open()) {
      // No other backend: the same one again.
      tried_.clear();
      if (!Open()) return false;
    }
    const std::string_view newest = buffers.Datagram(queue_.back());
    if (!Answered() && newest.size() <= kMaxKept) kept_ = newest;
    Touch(Answered() ? Phase::kAsking : Phase::kUnanswered);
    for (size_t i = 0; i < queue_.size(); ++i) {
      msghdr& header = buffers.out[i].msg_hdr;
      header = {};
      const std::string_view datagram = buffers.Datagram(queue_[i]);
      buffers.out_pieces[i] = {const_cast<char*>(datagram.data()), datagram.size()};
      header.msg_iov = &buffers.out_pieces[i];
      header.msg_iovlen = 1;
    }
    size_t sent = 0;
    while (sent < queue_.size()) {
      const int count = ::sendmmsg(fd_.get(), buffers.out.data() + sent,
                                   static_cast<unsigned>(queue_.size() - sent), MSG_NOSIGNAL);
      if (count > 0) {
        for (size_t i = sent; i < sent + static_cast<size_t>(count); ++i)
          relay_.stats_.udp_bytes_to_backends += buffers.out_pieces[i].iov_len;
        relay_.stats_.datagrams_to_backends += static_cast<uint64_t>(count);
        sent += static_cast<size_t>(count);
        sent_ = true;
        continue;
      }
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EMSGSIZE || errno == ENOBUFS || errno == EPERM) {
        ++relay_.stats_.datagrams_dropped;  // as a router would
        ++sent;
        continue;
      }
      // An ICMP error for an earlier datagram, or no route.
      relay_.table_.Failed(backend_, now);
      if (Answered() || !Open()) {
        relay_.stats_.datagrams_dropped += queue_.size() - sent;
        return false;
      }
      ++relay_.stats_.udp_retries;
    }
    return true;
  }

  void OnEvents(uint32_t events) override {
    if ((events & EPOLLERR) != 0) {
      int error = 0;
      socklen_t size = sizeof error;
      ::getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &size);
      if (error != 0 && !OnError()) return;
    }
    if ((events & EPOLLIN) != 0) Receive();
  }

 private:
  bool HasAffinity() const {
    const Slot* slot = relay_.table_.Find(key_.slot);
    return slot == nullptr || slot->affinity_seconds > 0;
  }

  void Close() {
    if (!fd_) return;
    relay_.loop_.Forget(this);
    fd_.Reset();
  }

  bool Answered() const { return phase_ != Phase::kUnanswered; }

  void Touch(Phase phase) {
    last_ = relay_.loop_.now();
    Order& to = relay_.InPhase(phase);
    to.splice(to.end(), relay_.InPhase(phase_), place_);
    phase_ = phase;
  }

  // False: the flow is over.
  bool OnError() {
    relay_.table_.Failed(backend_, relay_.loop_.now());
    // After an answer the client's next datagram starts another flow.
    while (!Answered() && !kept_.empty() && Open()) {
      ++relay_.stats_.udp_retries;
      if (::send(fd_.get(), kept_.data(), kept_.size(), MSG_NOSIGNAL) >= 0) {
        ++relay_.stats_.datagrams_to_backends;
        relay_.stats_.udp_bytes_to_backends += kept_.size();
        return true;
      }
      relay_.table_.Failed(backend_, relay_.loop_.now());
    }
    relay_.End(this);
    return false;
  }

  void Receive() {
    Buffers& buffers = *relay_.buffers_;
    const net::IpAddress source = SlotAddress(listener_.family(), key_.slot);
    sockaddr_storage client = ToSocketAddress(key_.client.ip, key_.client.port);
    for (int turn = 0; turn < kBatchesPerTurn; ++turn) {
      buffers.Prepare(false);
      const int count =
          ::recvmmsg(fd_.get(), buffers.messages.data(), kBatch, MSG_DONTWAIT, nullptr);
      if (count < 0) {
        if (errno == EINTR) continue;
        if (errno != EAGAIN) OnError();
        return;
      }
      if (!Answered()) {
        kept_ = {};
        tried_.clear();
        relay_.table_.Reached(key_.slot, key_.client.ip, backend_, relay_.loop_.now());
      }
      Touch(Phase::kQuiet);
      relay_.ScheduleSweep();  // the time-out is shorter now
      for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
        msghdr& header = buffers.messages[i].msg_hdr;
        buffers.pieces[i].iov_len = buffers.messages[i].msg_len;
        header.msg_name = &client;
        header.msg_namelen = SocketAddressSize(key_.client.ip);
        SetSource(header, buffers.control[i].data(), source);
      }
      for (size_t sent = 0; sent < static_cast<size_t>(count);) {
        const int done =
            ::sendmmsg(listener_.fd(), buffers.messages.data() + sent,
                       static_cast<unsigned>(count) - static_cast<unsigned>(sent), MSG_NOSIGNAL);
        if (done > 0) {
          for (size_t i = sent; i < sent + static_cast<size_t>(done); ++i)
            relay_.stats_.udp_bytes_to_clients += buffers.pieces[i].iov_len;
          sent += static_cast<size_t>(done);
          relay_.stats_.datagrams_to_clients += static_cast<uint64_t>(done);
        } else if (errno != EINTR) {
          ++relay_.stats_.datagrams_dropped;
          ++sent;
        }
      }
      if (static_cast<size_t>(count) < kBatch) return;
    }
  }

  UdpRelay& relay_;
  const Key key_;
  Listener& listener_;
  const net::FairShares<Flow>::Place share_;
  Clock::time_point last_;
  Order::iterator place_;
  Phase phase_ = Phase::kUnanswered;
  bool retired_ = false;
  bool sent_ = false;
  UniqueFd fd_;
  IpPort backend_;
  Clock::time_point opened_;
  std::vector<IpPort> tried_;
  std::string kept_;             // the last unanswered datagram
  std::vector<uint32_t> queue_;  // in the batch that is being read
};

void UdpRelay::Listener::Flush(std::span<Flow* const> flows) {
  for (Flow* flow : flows) {
    const bool lives = flow->Send();
    flow->queue().clear();
    if (!lives) relay_.End(flow);
  }
}

void UdpRelay::Listener::OnEvents(uint32_t) {
  Buffers& buffers = *relay_.buffers_;
  std::array<Flow*, kBatch> flows;
  for (int turn = 0; turn < kBatchesPerTurn; ++turn) {
    buffers.Prepare(true);
    const int count =
        ::recvmmsg(socket_.get(), buffers.messages.data(), kBatch, MSG_DONTWAIT, nullptr);
    if (count <= 0) return;  // also an ICMP error for an answer to a client that is gone
    size_t used = 0;
    for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
      const auto destination = DestinationOf(buffers.messages[i].msg_hdr);
      const auto slot = destination ? SlotOf(*destination) : std::nullopt;
      if (!slot) continue;  // not sent here by our rules
      const Key key{FromSocketAddress(buffers.names[i]), *slot};
      // A new flow may end any other, which must have sent what it has.
      if (relay_.flows_.size() >= relay_.limit_ && !relay_.flows_.contains(key)) {
        Flush({flows.data(), std::exchange(used, 0)});
      }
      Flow* const flow = relay_.Find(key, *this);
      if (flow == nullptr) {
        ++relay_.stats_.datagrams_dropped;
        continue;
      }
      if (flow->queue().empty()) flows[used++] = flow;
      flow->queue().push_back(static_cast<uint32_t>(i));
    }
    Flush({flows.data(), used});
    if (static_cast<size_t>(count) < kBatch) break;
  }
  relay_.ScheduleSweep();
}

UdpRelay::UdpRelay(EventLoop& loop, BackendTable& table, Stats& stats, size_t flows, uint32_t mark)
    : loop_(loop),
      table_(table),
      stats_(stats),
      limit_(flows),
      mark_(mark),
      buffers_(std::make_unique<Buffers>()) {}

UdpRelay::~UdpRelay() {
  if (sweep_set_) loop_.Cancel(sweep_);
  flows_.clear();
}

void UdpRelay::Listen(UniqueFd socket, net::Family family) {
  listeners_.push_back(std::make_unique<Listener>(*this, std::move(socket), family));
}

UdpRelay::Flow* UdpRelay::Find(const Key& key, Listener& listener) {
  const auto found = flows_.find(key);
  if (found != flows_.end()) return found->second.get();
  const Slot* slot = table_.Find(key.slot);
  if (slot == nullptr) return nullptr;
  while (flows_.size() >= limit_ && EndOne()) {
  }
  auto flow = std::make_shared<Flow>(*this, key, *slot, listener);
  if (!flow->Open()) return nullptr;
  ++stats_.udp_begun;
  Flow* const made = flow.get();
  flows_.emplace(key, std::move(flow));
  return made;
}

bool UdpRelay::EndOne() {
  for (Order& order : orders_) {
    if (order.empty()) continue;
    Flow* heaviest = order.front();
    size_t looked_at = 0;
    for (Flow* const flow : order) {
      if (looked_at++ == kLooks) break;
      if (flow->Weight() > heaviest->Weight()) heaviest = flow;
    }
    End(heaviest);
    return true;
  }
  return false;
}

void UdpRelay::End(Flow* flow) {
  const auto found = flows_.find(flow->key());
  if (found == flows_.end() || found->second.get() != flow) return;
  // Its memory stays until the turn's events are done.
  std::shared_ptr<Flow> ended = std::move(found->second);
  flows_.erase(found);
  ended->Retire();
  loop_.Destroy(std::move(ended));
}

Clock::duration UdpRelay::TimeoutOf(Phase phase) const {
  return phase == Phase::kQuiet ? idle_timeout_
                                : std::max<Clock::duration>(idle_timeout_, kAnswerTimeout);
}

void UdpRelay::SetIdleTimeout(std::chrono::nanoseconds timeout) {
  idle_timeout_ = timeout;
  if (std::exchange(sweep_set_, false)) loop_.Cancel(sweep_);
  ScheduleSweep();
}

void UdpRelay::Sweep() {
  sweep_set_ = false;
  for (const Phase phase : kPhases) {
    Order& order = InPhase(phase);
    while (!order.empty() && order.front()->last() + TimeoutOf(phase) <= loop_.now())
      End(order.front());
  }
  ScheduleSweep();
}

void UdpRelay::ScheduleSweep() {
  std::optional<Clock::time_point> next;
  for (const Phase phase : kPhases) {
    const Order& order = InPhase(phase);
    if (order.empty()) continue;
    const Clock::time_point end = order.front()->last() + TimeoutOf(phase);
    if (!next || end < *next) next = end;
  }
  if (!next) return;
  const Clock::time_point when = std::max(*next, loop_.now()) + kSweepGrain;
  if (sweep_set_ && sweep_->first <= when) return;
  if (sweep_set_) loop_.Cancel(sweep_);
  sweep_ = loop_.At(when, [this] { Sweep(); });
  sweep_set_ = true;
}

void UdpRelay::TableChanged() {
  std::vector<Flow*> stale;
  for (const auto& [key, flow] : flows_) {
    if (!table_.Has(key.slot, flow->backend())) stale.push_back(flow.get());
  }
  for (Flow* flow : stale)
    End(flow);
}

}  // namespace pointsman::forwarder
