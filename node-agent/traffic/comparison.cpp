#include "node-agent/traffic/comparison.h"

#include <algorithm>
#include <cmath>

namespace pointsman::agent {
namespace {

double LogGamma(double x) {
  int sign = 0;
  return lgamma_r(x, &sign);  // std::lgamma shares a variable between threads
}

double LogBeta(double a, double b) {
  return LogGamma(a) + LogGamma(b) - LogGamma(a + b);
}

void Add(Outcomes& sum, const Outcomes& outcomes) {
  sum.answered += outcomes.answered;
  sum.unanswered += outcomes.unanswered;
}

// Of `count` independent chances whose logarithms have that sum, as one (Fisher 1925): that their
// product is so small or smaller.
double Combined(double log_product, size_t count) {
  const double x = -log_product;
  double sum = std::exp(-x);
  // Each term by its logarithm: x to the power of i is more than a double holds.
  for (size_t i = 1; i < count && x > 0; ++i)
    sum +=
        std::exp(static_cast<double>(i) * std::log(x) - LogGamma(static_cast<double>(i) + 1) - x);
  return sum;
}

// The clients that were answered before, each compared with itself.
std::optional<Worse> CompareKnown(const net::IpPort& place, const ClientOutcomes& before,
                                  const ClientOutcomes& after) {
  Worse known{place, {}, {}, {}};
  size_t compared = 0;
  double log_chance = 0;
  double expected = 0;
  for (const auto& [client, outcomes] : after) {
    const auto was = before.find(client);
    if (was == before.end() || was->second.answered == 0) continue;
    Add(known.before, was->second);
    Add(known.after, outcomes);
    if (outcomes.unanswered > 0) known.clients.push_back(client);
    ++compared;
    log_chance += std::log(std::max(ChanceOfNoBetter(was->second, outcomes), 1e-300));
    expected += static_cast<double>(outcomes.all()) *
                (static_cast<double>(was->second.answered) + 1) /
                (static_cast<double>(was->second.all()) + 2);
  }
  if (known.after.unanswered < kFewest ||
      static_cast<double>(known.after.answered) > kShare * expected ||
      Combined(log_chance, compared) > kChance)
    return std::nullopt;
  return known;
}

// All clients, as one trial each.
std::optional<Worse> CompareStrangers(const net::IpPort& place, const ClientOutcomes& before,
                                      const ClientOutcomes& after) {
  Worse all{place, {}, {}, {}};
  Outcomes clients_before;
  for (const auto& [client, outcomes] : before) {
    Add(all.before, outcomes);
    ++(outcomes.answered > 0 ? clients_before.answered : clients_before.unanswered);
  }
  for (const auto& [client, outcomes] : after) {
    Add(all.after, outcomes);
    all.clients.push_back(client);
  }
  if (all.after.answered > 0 || all.clients.size() < kFewest ||
      ChanceOfNoBetter(clients_before, {0, all.clients.size()}) > kChance)
    return std::nullopt;
  return all;
}

}  // namespace

double ChanceOfNoBetter(const Outcomes& before, const Outcomes& after) {
  const double a = static_cast<double>(before.answered) + 1;
  const double b = static_cast<double>(before.unanswered) + 1;
  const double n = static_cast<double>(after.all());
  const double log_begin = LogGamma(n + 1) - LogBeta(a, b);
  double chance = 0;
  for (uint64_t i = 0; i <= after.answered; ++i) {
    const double k = static_cast<double>(i);
    chance +=
        std::exp(log_begin - LogGamma(k + 1) - LogGamma(n - k + 1) + LogBeta(k + a, n - k + b));
  }
  return std::min(chance, 1.0);
}

std::optional<Worse> Compare(const net::IpPort& place, const ClientOutcomes& before,
                             const ClientOutcomes& after) {
  std::optional<Worse> worse = CompareKnown(place, before, after);
  if (!worse) worse = CompareStrangers(place, before, after);
  if (worse) std::sort(worse->clients.begin(), worse->clients.end());
  return worse;
}

}  // namespace pointsman::agent
