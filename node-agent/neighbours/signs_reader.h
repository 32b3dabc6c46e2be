// Looks for signs of neighbours in the kernel: by netlink and /proc, without a process.
#pragma once

#include <string>
#include <vector>

#include "node-agent/neighbours/signs.h"

namespace pointsman::agent {

// Of the calling thread's network namespace. Changes nothing: no table is made for being looked at,
// no module loaded. What could not be looked at is in Signs::unread, and the rest is there all the
// same; takes as long as the lists in the kernel are, and keeps of them what the patterns ask for.
// `modules_root`: modules are named in `modules_root`/lib/modules/<release> ("" = "/").
// Never throws for what the kernel answers.
Signs ReadSigns(const std::vector<SignPattern>& patterns, const std::string& modules_root = "");

}  // namespace pointsman::agent
