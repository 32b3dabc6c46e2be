// pointsman-conformance: runs the conformance cases of one mode and family on real kernels.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <functional>
#include <memory>
#include <regex>
#include <utility>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include "e2e/conformance/arena.h"
#include "e2e/conformance/runner.h"
#include "e2e/conformance/semantics.h"

namespace pointsman::e2e {
namespace {

using Clock = std::chrono::steady_clock;
namespace fs = std::filesystem;

constexpr int kSkipped = 77;  // as ctest's SKIP_RETURN_CODE

struct Flags {
  std::string mode = "iptables";
  std::string family = "IPv4";
  std::vector<fs::path> folders;
  std::string only;
  std::string beside;
  std::string nodes;
  fs::path dir;
  fs::path source_dir = POINTSMAN_SOURCE_DIR;
  bool list = false;
  fs::path document;
  fs::path check_document;
};

std::string ReadWhole(const fs::path& file) {
  std::ifstream stream(file);
  return {std::istreambuf_iterator<char>(stream), {}};
}

int Document(const Flags& flags, const std::vector<Case>& cases) {
  const fs::path list = flags.source_dir / "e2e/conformance/semantics.yaml";
  const std::string text = SemanticsDocument(LoadSemantics(list), cases);
  if (!flags.document.empty()) {
    std::ofstream file(flags.document, std::ios::trunc);
    file << text << std::flush;
    if (!file) throw std::runtime_error("cannot write " + flags.document.string());
    return 0;
  }
  if (ReadWhole(flags.check_document) == text) return 0;
  std::fprintf(stderr,
               "%s differs from the case files: write it again with "
               "pointsman-conformance --document docs/semantics.md\n",
               flags.check_document.c_str());
  return 1;
}

// Of the datagrams that are answered, how many in a thousand may have been sent again: see
// Arena::loses_packets. What loses the first datagram of each flow loses far more.
constexpr int kMostSentAgainInAThousand = 10;

// How many connections of a run may meet another's port (taken_port.h). One or two do: each that is
// masqueraded, with one in 64,512 for each that IPVS still has of the last two minutes.
constexpr int kMostPortsTaken = 6;

struct Tally {
  int passed = 0;
  int failed = 0;
  int known = 0;
  int left_out = 0;
  int refused = 0;  // beside a neighbour that the agent's table refuses the mode beside
  // What was printed of each failure. It is printed again at the end: ctest leaves the middle of a
  // long output out, and people read the end first.
  std::string failures;

  void Fail(const std::string& text) {
    ++failed;
    failures += text;
    std::fputs(text.c_str(), stdout);
  }
};

std::string Indented(const std::string& text) {
  return "  " + std::regex_replace(text, std::regex("\n"), "\n  ") + "\n";
}

std::string Details(const Case& one, const std::vector<std::string>& failures, bool with_rules) {
  std::string text = fmt::format("  {}:{}; the rule is from {}\n", one.file.string(), one.line,
                                 fmt::join(one.sources, ", "));
  for (const std::string& failure : failures) {
    if (!with_rules && failure.starts_with("rules ")) continue;
    text += Indented(failure);
  }
  return text;
}

// `session`: null for a case without a neighbour.
void RunOne(Arena& arena, const Case& one, net::Family family, NeighbourSession* session,
            int& number, Tally& tally) {
  const auto start = Clock::now();
  const std::string known = one.KnownFailure(arena.mode(), family);
  const std::vector<std::string> failures = CaseRunner(arena, one, family, ++number, session).Run();
  const std::string name = one.name + (session == nullptr ? "" : " beside " + session->name());
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  if (failures.empty() && known.empty()) {
    ++tally.passed;
    std::printf("ok            %s (%.1f s)\n", name.c_str(), seconds);
    return;
  }
  if (failures.empty()) {
    tally.Fail(
        fmt::format("FAIL          {} ({:.1f} s)\n  passes, but is marked as known to fail: {}\n",
                    name, seconds, known));
    return;
  }
  if (known.empty()) {
    tally.Fail(fmt::format("FAIL          {} ({:.1f} s)\n{}", name, seconds,
                           Details(one, failures, true)));
    return;
  }
  ++tally.known;
  // What a known failure looks like is known: its rules would bury the rest.
  std::printf("known failure %s (%.1f s): %s\n%s", name.c_str(), seconds, known.c_str(),
              Details(one, failures, false).c_str());
}

void PrintSession(const std::string& what, const std::vector<std::string>& failures, double seconds,
                  Tally& tally) {
  if (failures.empty()) {
    ++tally.passed;
    std::printf("ok            %s (%.1f s)\n", what.c_str(), seconds);
  } else {
    std::string text = fmt::format("FAIL          {} ({:.1f} s)\n", what, seconds);
    for (const std::string& failure : failures)
      text += Indented(failure);
    tally.Fail(text);
  }
  std::fflush(stdout);
}

// Runs it, and adds what it throws.
void Guarded(std::vector<std::string>& failures, const std::function<void()>& work) {
  try {
    work();
  } catch (const std::exception& error) {
    failures.push_back(error.what());
  }
}

// The cases that name this neighbour, with it in place. False: none was run, since the mode is
// refused beside it.
bool RunBeside(Arena& arena, const agent::testing::KnownNeighbour& neighbour,
               const std::vector<const Case*>& cases, net::Family family, int& number,
               Tally& tally) {
  const auto start = Clock::now();
  NeighbourSession session(arena, neighbour, family);
  std::vector<std::string> failures;
  Guarded(failures, [&] {
    session.PutInPlace();
    if (!session.refusals().empty()) return;
    NeighbourSession::StartAgents(arena);
    session.ExpectRefusalsAreSaid();
    session.ExpectAgreement();
    for (const Case* one : cases)
      RunOne(arena, *one, family, &session, number, tally);
  });
  // However it went: the next one is to have the kernels to itself.
  Guarded(failures, [&] { arena.EndAgents(); });
  Guarded(failures, [&] { session.TakeAway(); });
  failures.insert(failures.end(), session.failures().begin(), session.failures().end());
  const bool refused = failures.empty() && !session.refusals().empty();
  if (!refused)
    PrintSession(session.name() + " and its rules", failures,
                 std::chrono::duration<double>(Clock::now() - start).count(), tally);
  return !refused;
}

// All at once: nothing but the agents' words is looked at.
void ExpectRefused(Arena& arena, const std::vector<const agent::testing::KnownNeighbour*>& refused,
                   net::Family family, Tally& tally) {
  const auto start = Clock::now();
  std::vector<std::unique_ptr<NeighbourSession>> sessions;
  std::vector<std::string> failures;
  Guarded(failures, [&] {
    for (const auto* neighbour : refused) {
      // Two of these have the same chains: they are one neighbour to the agent.
      const bool felix = std::any_of(sessions.begin(), sessions.end(),
                                     [](const auto& session) { return session->is_felix(); });
      if (neighbour->felix && felix) continue;
      sessions.push_back(std::make_unique<NeighbourSession>(arena, *neighbour, family));
      sessions.back()->PutInPlace();
    }
    NeighbourSession::StartAgents(arena);
    for (const auto& session : sessions)
      session->ExpectRefusalsAreSaid();
  });
  Guarded(failures, [&] { arena.EndAgents(); });
  for (auto session = sessions.rbegin(); session != sessions.rend(); ++session) {
    Guarded(failures, [&] { (*session)->TakeAway(); });
    failures.insert(failures.end(), (*session)->failures().begin(), (*session)->failures().end());
  }
  std::string names;
  for (const auto* neighbour : refused)
    names += (names.empty() ? "" : ", ") + std::string(neighbour->name);
  PrintSession("the mode is refused beside " + names, failures,
               std::chrono::duration<double>(Clock::now() - start).count(), tally);
}

void RunBesideAll(Arena& arena, const std::vector<Case>& cases, const std::string& beside,
                  net::Family family, int& number, Tally& tally) {
  std::vector<const agent::testing::KnownNeighbour*> refused;
  bool ended = false;
  for (const auto& neighbour : agent::testing::KnownNeighbours()) {
    const std::string name(neighbour.name);
    std::vector<const Case*> its;
    for (const Case& one : cases) {
      const auto& names = one.neighbours;
      if (one.AppliesTo(arena.mode(), family) &&
          std::find(names.begin(), names.end(), name) != names.end())
        its.push_back(&one);
    }
    if (its.empty() || !std::regex_search(name, std::regex(beside))) continue;
    if (const std::string why = NeighbourSession(arena, neighbour, family).CannotBe();
        !why.empty()) {
      tally.left_out += static_cast<int>(its.size());
      std::printf("left out      beside %s: %s\n", name.c_str(), why.c_str());
      continue;
    }
    if (!std::exchange(ended, true)) arena.EndAgents();
    if (RunBeside(arena, neighbour, its, family, number, tally)) continue;
    tally.refused += static_cast<int>(its.size());
    refused.push_back(&neighbour);
  }
  if (!refused.empty()) ExpectRefused(arena, refused, family, tally);
}

int Main(Flags flags) {
  if (flags.folders.empty()) flags.folders = {flags.source_dir / "e2e/conformance/cases"};
  std::vector<Case> cases = LoadCases(flags.folders);
  if (!flags.document.empty() || !flags.check_document.empty()) return Document(flags, cases);
  if (!flags.only.empty()) {
    const std::regex only(flags.only);
    std::erase_if(cases, [&](const Case& one) { return !std::regex_search(one.name, only); });
    if (cases.empty()) throw std::invalid_argument("--only " + flags.only + ": no such case");
  }
  if (flags.list) {
    for (const Case& one : cases)
      std::printf("%s\t%s:%d\n", one.name.c_str(), one.file.c_str(), one.line);
    return 0;
  }
  const auto family = flags.family == "IPv4" ? net::Family::kIPv4 : net::Family::kIPv6;
  Arena::Options options;
  options.mode = *kube::ParseMode(flags.mode);
  options.dir = flags.dir.empty()
                    ? fs::temp_directory_path() / fmt::format("pointsman-conformance-{}-{}-{}",
                                                              flags.mode, flags.family, getpid())
                    : fs::absolute(flags.dir);
  options.source_dir = flags.source_dir;
  options.node_kind = flags.nodes;
  Tally tally;
  Arena::Datagrams datagrams;
  int ports_taken = 0;
  {
    Arena arena(options);
    if (const std::string missing = arena.Missing(); !missing.empty()) {
      std::printf("skipped: %s\n", missing.c_str());
      return kSkipped;
    }
    arena.Start();
    // Cases with the same configuration one after another: the agents are started anew for another.
    std::stable_sort(cases.begin(), cases.end(),
                     [](const Case& a, const Case& b) { return a.proxy.dump() < b.proxy.dump(); });
    int number = 0;
    for (const Case& one : cases) {
      if (!one.AppliesTo(options.mode, family)) {
        ++tally.left_out;
        const auto reason = one.not_in.find(options.mode);
        std::printf("left out      %s: %s\n", one.name.c_str(),
                    reason == one.not_in.end() ? "not for this family" : reason->second.c_str());
      } else if (one.needs_sctp && !arena.has_sctp()) {
        ++tally.left_out;
        std::printf("left out      %s: the nodes' kernel has no SCTP sockets\n", one.name.c_str());
      } else if (one.neighbours.empty()) {
        RunOne(arena, one, family, nullptr, number, tally);
      }
      std::fflush(stdout);
    }
    RunBesideAll(arena, cases, flags.beside, family, number, tally);
    datagrams = arena.datagrams();
    ports_taken = arena.ports_taken();
  }
  if (!tally.failures.empty()) std::printf("What failed, again:\n%s", tally.failures.c_str());
  std::printf("%s, %s: %d passed, %d failed, %d known to fail, %d left out, %d refused\n",
              flags.mode.c_str(), flags.family.c_str(), tally.passed, tally.failed, tally.known,
              tally.left_out, tally.refused);
  // Of a few datagrams one lost is chance.
  const int may_be_lost = std::max(1, datagrams.answered * kMostSentAgainInAThousand / 1000);
  const bool lost = datagrams.sent_again > may_be_lost;
  if (datagrams.sent_again > 0)
    std::printf("%s%d of %d datagrams were answered only when they were sent again (at most %d)\n",
                lost ? "FAIL          " : "", datagrams.sent_again, datagrams.answered,
                may_be_lost);
  const bool taken = ports_taken > kMostPortsTaken;
  if (ports_taken > 0)
    std::printf("%s%d times a connection met another's port in IPVS (at most %d; docs/ipvs.md)\n",
                taken ? "FAIL          " : "", ports_taken, kMostPortsTaken);
  const bool good = tally.failed == 0 && !lost && !taken;
  if (good && flags.dir.empty()) fs::remove_all(options.dir);
  return good ? 0 : 1;
}

}  // namespace
}  // namespace pointsman::e2e

int main(int argc, char** argv) {
  CLI::App app("Runs the conformance cases of one mode and family", "pointsman-conformance");
  pointsman::e2e::Flags flags;
  app.add_option("--mode", flags.mode)
      ->check(CLI::IsMember({"iptables", "ipvs", "nftables", "userspace"}))
      ->capture_default_str();
  app.add_option("--family", flags.family)
      ->check(CLI::IsMember({"IPv4", "IPv6"}))
      ->capture_default_str();
  app.add_option("--cases", flags.folders,
                 "A folder of case files (*.yaml); may be given again. Default: the repository's")
      ->check(CLI::ExistingDirectory);
  app.add_option("--only", flags.only,
                 "A regular expression that the names of the cases have to match");
  app.add_option("--beside", flags.beside,
                 "A regular expression that the names of the neighbours have to match");
  app.add_option("--nodes", flags.nodes, "netns or uml. Default: uml for ipvs, netns else");
  app.add_option("--dir", flags.dir,
                 "Where logs go, kept. Default: a temporary folder, kept on failure");
  app.add_option("--source-dir", flags.source_dir, "Of crds/ and manifests/")
      ->capture_default_str();
  app.add_flag("--list", flags.list, "Only check the case files and list the cases");
  app.add_option("--document", flags.document, "Only write docs/semantics.md");
  app.add_option("--check-document", flags.check_document, "Only compare it with the cases");
  CLI11_PARSE(app, argc, argv);
  try {
    return pointsman::e2e::Main(flags);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "pointsman-conformance: %s\n", error.what());
    return 2;
  }
}
