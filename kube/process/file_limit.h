// How many files a process may have open.
#pragma once

namespace pointsman::kube {

// Raises the soft limit to the hard one, as Go's runtime does for every program
// (syscall/rlimit.go): the soft one is kept at 1024 on many systems for the sake of select(2),
// which nothing here uses, and peers' connections alone may be more.
void RaiseFileLimit();

}  // namespace pointsman::kube
