// The way to this network namespace's nf_tables: transactions and dumps.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "node-agent/netlink/socket.h"
#include "node-agent/nf_tables/transaction.h"

namespace pointsman::agent::nft {

// One request that the kernel refused, or the transaction as a whole.
struct Refusal {
  std::string object;   // "chain services"
  int error = 0;        // positive errno
  std::string message;  // "No such file or directory", with the kernel's own words if it has any
};

// Not thread-safe.
class Connection {
 public:
  // Throws std::system_error.
  Connection();

  // Empty: done. Else nothing was done. The transaction is used up. Throws std::system_error when
  // the socket itself fails, after which it is not known whether it was done.
  std::vector<Refusal> Commit(Transaction& transaction) { return Run(transaction, true); }
  // Has it checked, as nft --check does, and does nothing.
  std::vector<Refusal> Check(Transaction& transaction) { return Run(transaction, false); }

  // Each object of one kind (NFT_MSG_GETCHAIN, …) of `family`, as the message that describes it.
  // `table_attribute`: where that kind of request names the table, 0 if it cannot. `set`: whose
  // elements, "" for other kinds. Calls `restart` when what it has given so far is to be forgotten.
  // `each` returns whether to go on; after a dump that it ended this connection can make no other
  // one. 0 or a positive errno.
  int Dump(uint8_t message, net::Family family, std::string_view table, uint16_t table_attribute,
           std::string_view set, const std::function<void()>& restart,
           const std::function<bool(const nlmsghdr*)>& each);

 private:
  std::vector<Refusal> Run(Transaction& transaction, bool commit);

  netlink::Socket transactions_;
  netlink::Socket dumps_;
  uint32_t sequence_ = 1;
};

}  // namespace pointsman::agent::nft
