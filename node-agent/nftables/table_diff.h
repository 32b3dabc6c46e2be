// How our table in the kernel differs from what it is to hold.
#pragma once

#include "node-agent/dataplane/dataplane.h"
#include "node-agent/nf_tables/connection.h"
#include "node-agent/nf_tables/kernel_table.h"
#include "node-agent/nftables/desired_table.h"
#include "node-agent/nftables/table_change.h"

namespace pointsman::agent::nft {

struct TableDiff {
  TableChange change;  // mends it; one transaction for the whole table where it cannot be mended
  VerifyResult found;  // objects: "nftables IPv4 chain services"
};

// `kernel`: ReadTable by the same connection, by which the elements are read. Throws
// std::system_error.
TableDiff CompareTable(const DesiredTable& desired, const KernelTable& kernel, net::Family family,
                       Connection& connection);

}  // namespace pointsman::agent::nft
