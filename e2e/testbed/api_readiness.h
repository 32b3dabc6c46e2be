// When an API server that a test has started is there.
#pragma once

#include <chrono>
#include <filesystem>

#include "e2e/testbed/process.h"

namespace pointsman::e2e {

// Waits until /readyz of the server in `kubeconfig` answers 200. Throws std::runtime_error with the
// end of `log` when `server` ends before that or `timeout` is over.
void AwaitReadyApi(const std::filesystem::path& kubeconfig, Process& server,
                   const std::filesystem::path& log, std::chrono::seconds timeout);

}  // namespace pointsman::e2e
