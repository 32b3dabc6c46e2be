#include "node-agent/model/reply_sources.h"

#include <optional>

namespace pointsman::agent {

void ForEachReplySource(const ServicePortEntry& entry,
                        const std::function<void(const ReplySource&)>& each) {
  // Neighbours in these lists are most often in one block.
  std::optional<ReplySource> last;
  for (const std::vector<Backend>* backends :
       {&entry.internal.backends, &entry.external.backends, &entry.external_from_node.backends,
        &entry.draining}) {
    for (const Backend& backend : *backends) {
      if (last && last->port == backend.port && last->block.Contains(backend.ip)) continue;
      last = ReplySource{net::IpPrefix(backend.ip, ReplyBlockLength(entry.id.family)),
                         entry.id.protocol, backend.port};
      each(*last);
    }
  }
}

}  // namespace pointsman::agent
