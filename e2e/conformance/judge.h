// Whether what a probe saw is what was expected. Pure functions.
#pragma once

#include <string>
#include <vector>

#include "e2e/conformance/case.h"

namespace pointsman::e2e {

// One connection, as pointsman-traffic connect reports it.
struct Attempt {
  bool ok = false;
  std::string backend;
  std::string seen_source;  // address and port
  std::string error;        // see e2e/traffic/connect.h
  double ms = 0;
  int sent = 0;  // datagrams
  int local_port = 0;
};

// Throws std::runtime_error when the text holds no report at all.
std::vector<Attempt> ParseAttempts(const std::string& output);

struct AllowedSources {
  std::string name;                    // as in the case: "client", "node", an address
  std::vector<std::string> addresses;  // empty: any
};

// "": as expected; else what was expected and what was seen.
std::string Judge(const Expectation& expect, const AllowedSources& sources,
                  const std::vector<Attempt>& attempts);

// How many connections show each of `backends` of a dataplane that draws by lot, but for one run in
// a million.
int AttemptsToSeeEach(size_t backends);

// "7 by pod-1a (10.244.1.10), 1 refused"
std::string Summarize(const std::vector<Attempt>& attempts);

}  // namespace pointsman::e2e
