#include "kube/process/file_limit.h"

#include <cerrno>
#include <sys/resource.h>

#include <spdlog/spdlog.h>

namespace pointsman::kube {

void RaiseFileLimit() {
  rlimit limit{};
  bool raised = getrlimit(RLIMIT_NOFILE, &limit) == 0;
  if (raised && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    raised = setrlimit(RLIMIT_NOFILE, &limit) == 0;
  }
  if (!raised) {
    spdlog::warn("the limit of open files could not be raised: {}",
                 std::generic_category().message(errno));
  }
}

}  // namespace pointsman::kube
