#include "node-agent/testing/process_usage.h"

#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>

#include <unistd.h>

namespace pointsman::agent::testing {

size_t ResidentKilobytes(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS:")) return std::stoul(line.substr(6));
  }
  return 0;
}

std::chrono::milliseconds CpuTime(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string stat;
  std::getline(file, stat);
  // The second field is the program's name in parentheses, and may have any character in it.
  const size_t after_name = stat.rfind(')');
  if (after_name == std::string::npos)
    throw std::runtime_error("process " + std::to_string(pid) + " is gone");
  std::istringstream fields(stat.substr(after_name + 1));
  std::string skipped;
  for (int i = 3; i < 14; ++i)
    fields >> skipped;
  long ticks = 0;
  for (int i = 0; i < 4; ++i) {  // utime, stime, cutime, cstime
    long value = 0;
    fields >> value;
    ticks += value;
  }
  return std::chrono::milliseconds(ticks * 1000 / ::sysconf(_SC_CLK_TCK));
}

}  // namespace pointsman::agent::testing
