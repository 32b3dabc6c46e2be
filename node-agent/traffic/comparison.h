// Is what clients meet worse than before: the rule that a handover stands or falls by.
//
// Each client of a place (a Service's address and port) is its own measure: only those are compared
// that were answered before. So a scanner, a client that a policy keeps out, or a Service whose
// endpoints were dead already speaks neither for a mode nor against it. How surprising it is that
// so many of a client's connections stay unanswered is told by the rule of succession: if A
// were answered before and B were not, and nothing has changed, then of n more the number that is
// answered has the beta-binomial distribution with parameters A+1, B+1. (Not the plain share
// A/(A+B): after 5 of 5 nobody knows that it is 1.) The chances of all clients of the place become
// one by Fisher's method; their connections are not added up, since a client that is seldom
// answered may have come seldom before and often after. Worse is what has a chance of kChance or
// less if nothing changed, and is bad enough to matter: kFewest connections unanswered, and at most
// kShare as many answered as were to be expected, so that a crowded backend more or less is no
// matter.
//
// A place that many clients visit once (outside clients at a node port) has few that come again.
// There clients are counted instead of connections: how many were answered before, and that not a
// single one is now.
//
// What this cannot tell from a mode's fault is endpoints that died at that moment: who calls asks
// them (ClientTraffic).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "node-agent/traffic/attempts.h"

namespace pointsman::agent {

inline constexpr double kChance = 1e-5;
inline constexpr double kShare = 2.0 / 3;
inline constexpr uint64_t kFewest = 5;

// How likely it is that of `after.all()` connections no more than `after.answered` are answered,
// when nothing has changed since `before`. 0 to 1.
double ChanceOfNoBetter(const Outcomes& before, const Outcomes& after);

struct Worse {
  net::IpPort place;
  // Of the clients that are compared.
  Outcomes before;
  Outcomes after;
  std::vector<net::IpAddress> clients;  // with unanswered connections; sorted
};

// Nullopt: as good as before, or nobody knows.
std::optional<Worse> Compare(const net::IpPort& place, const ClientOutcomes& before,
                             const ClientOutcomes& after);

}  // namespace pointsman::agent
