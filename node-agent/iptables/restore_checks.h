// What must hold for the text that iptables-restore gets, whatever Services and EndpointSlices say:
// checked with the tool and a kernel, which are the only ones to know what they take. In the form
// of fuzz/checks.h, but not under libFuzzer: each input starts some twenty processes.
#pragma once

#include <string_view>

#include "node-agent/xtables/iptables_tool.h"

namespace pointsman::agent::testing {

// In the network namespace of the calling thread, which is for nothing else. Not thread-safe.
class RestoreChecks {
 public:
  // Throws as IptablesTool's constructor.
  RestoreChecks();

  // `input`: a v1 List of Services and EndpointSlices as JSON. Those that can be decoded are
  // programmed and taken out again, in both families. Throws std::logic_error unless
  //  * iptables-restore takes all of it, and iptables-save says what was written,
  //  * every Service port of the model is found there with its addresses and endpoints,
  //  * there is no rule and no chain beside ours and the jumps to them,
  //  * nothing of the Services is left when they are gone.
  void Check(std::string_view input);

 private:
  xtables::IptablesTool v4_{net::Family::kIPv4};
  xtables::IptablesTool v6_{net::Family::kIPv6};
};

}  // namespace pointsman::agent::testing
