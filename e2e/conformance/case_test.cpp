#include "e2e/conformance/case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pointsman::e2e {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr char kGood[] = R"(
cases:
- name: web
  source: https://kubernetes.io/docs/concepts/services-networking/service/
  semantics: [cluster-ip]
  known_failure: {ipvs/IPv6: not yet}
  not_in: {userspace: it has no such thing}
  steps:
  - apply: {kind: Service, metadata: {name: web}, spec: {ports: [{port: 80, targetPort: 8080}]}}
  - endpoints: {web: [pod-1a, {of: pod-2a, ready: false, serving: true, terminating: true}]}
  - probe: {from: [pod-1a, node-2], to: web, protocol: [tcp, udp], expect: {answered_by: pods, source: client}}
  - open: {stream: s, from: outside, to: web@node-1, answered_by: [pod-1a]}
  - delete: Service/web
  - stream: {name: s, is: alive}
  - probe: {from: pod-1a, to: web, expect: refused, eventually: 2s}
  - event: {on: Service/web, reason: Odd, message: "no .*"}
)";

std::string ErrorOf(const std::string& text) {
  try {
    ParseCases(text, "some/where.yaml");
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

// kGood with one piece replaced.
std::string With(const std::string& piece, const std::string& by) {
  std::string text = kGood;
  const size_t at = text.find(piece);
  EXPECT_NE(at, std::string::npos) << piece;
  return text.replace(at, piece.size(), by);
}

TEST(CaseTest, ReadsWhatIsThere) {
  const std::vector<Case> cases = ParseCases(kGood, "where.yaml");
  ASSERT_EQ(cases.size(), 1U);
  const Case& one = cases[0];
  EXPECT_EQ(one.name, "web");
  EXPECT_EQ(one.line, 3);
  EXPECT_TRUE(one.AppliesTo(kube::Mode::kIpvs, net::Family::kIPv6));
  EXPECT_FALSE(one.AppliesTo(kube::Mode::kUserspace, net::Family::kIPv4));
  EXPECT_EQ(one.KnownFailure(kube::Mode::kIpvs, net::Family::kIPv6), "not yet");
  EXPECT_EQ(one.KnownFailure(kube::Mode::kIpvs, net::Family::kIPv4), "");
  ASSERT_EQ(one.steps.size(), 8U);
  const auto& probe = std::get<ProbeStep>(one.steps[2].action);
  EXPECT_EQ(probe.from, (std::vector<std::string>{"pod-1a", "node-2"}));
  EXPECT_EQ(probe.protocol, (std::vector<std::string>{"tcp", "udp"}));
  EXPECT_EQ(probe.expect.answered_by, StandingPods());
  EXPECT_EQ(probe.expect.source, "client");
  const auto& last = std::get<ProbeStep>(one.steps[6].action);
  EXPECT_EQ(last.expect.kind, Expectation::Kind::kRefused);
  EXPECT_EQ(last.eventually, std::chrono::seconds(2));
  EXPECT_LE(last.timeout * 4, last.eventually) << "one lost connection uses up the time";
  const auto& event = std::get<EventStep>(one.steps[7].action);
  EXPECT_EQ(event.object, "Service/web");
  EXPECT_EQ(event.reason, "Odd");
  EXPECT_EQ(event.message, "no .*");
}

TEST(CaseTest, NamesFileLineCaseAndFieldOfABadOne) {
  EXPECT_EQ(ErrorOf(With("from: [pod-1a, node-2]", "from: pod-9")),
            "where.yaml: line 11: case web: steps[2].probe.from: \"pod-9\" is none of outside, "
            "node-1, node-2, pod-1a, pod-1b, pod-2a, pod-2b, routed-1a, routed-1b, routed-2a");
  EXPECT_THAT(
      ErrorOf(With("expect: refused", "expect: gone")),
      StartsWith("where.yaml: line 15: case web: steps[6].probe.expect: must be refused, "));
  EXPECT_THAT(ErrorOf(With("eventually: 2s", "eventually: 2")), HasSubstr("must be a duration"));
  EXPECT_THAT(ErrorOf(With("eventually: 2s", "timeout: 2s, eventually: 2s")),
              HasSubstr("probe.eventually: must be twice the timeout (2000 ms) at least"));
  EXPECT_THAT(ErrorOf(With("eventually: 2s", "soon: 2s")), HasSubstr("soon: no such field"));
  EXPECT_THAT(ErrorOf(With("is: alive", "is: dead")), HasSubstr("must be alive or broken"));
  EXPECT_THAT(ErrorOf(With("name: s, is", "name: t, is")), HasSubstr("no earlier step opens"));
  EXPECT_THAT(ErrorOf(With("- delete: Service/web", "- remove: Service/web")),
              HasSubstr("steps[4]: must be a map with one of apply, "));
  EXPECT_THAT(ErrorOf(With("web@node-1", "web@node-7")), HasSubstr("place \"node-7\" is none of"));
  EXPECT_THAT(ErrorOf(With("on: Service/web", "on: web")), HasSubstr("is not Service/NAME"));
  EXPECT_THAT(ErrorOf(With("reason: Odd, ", "")), HasSubstr("needs \"reason\""));
  EXPECT_THAT(ErrorOf(With("ipvs/IPv6", "ipvs/v6")), HasSubstr("is not MODE or MODE/IPv4"));
  EXPECT_THAT(ErrorOf(With("{userspace:", "{usrspace:")), HasSubstr("\"usrspace\" is no mode"));
  EXPECT_THAT(ErrorOf(With("  source: https", "  sauce: https")), HasSubstr("needs \"source\""));
  EXPECT_THAT(ErrorOf(With("of: pod-2a", "off: pod-2a")), HasSubstr("no such field"));
  EXPECT_THAT(ErrorOf("cases: [\n"), StartsWith("where.yaml: line "));
  EXPECT_THAT(ErrorOf("case: []"), HasSubstr("needs a list \"cases\""));
}

constexpr char kBeside[] = R"(
cases:
- name: policy
  source: somewhere
  neighbours: [calico-insert, kube-router]
  steps:
  - policies: {routed-1a: {ingress_from: [pod-1a, outside]}, routed-1b: {egress_to: []}}
  - probe: {from: pod-1b, to: {address: $(routed-1a), port: 8080}, expect: unanswered}
)";

std::string BesideWith(const std::string& piece, const std::string& by) {
  std::string text = kBeside;
  const size_t at = text.find(piece);
  EXPECT_NE(at, std::string::npos) << piece;
  return text.replace(at, piece.size(), by);
}

TEST(CaseTest, ReadsNeighboursAndWhatTheyEnforce) {
  const Case one = ParseCases(kBeside, "where.yaml").at(0);
  EXPECT_EQ(one.neighbours, (std::vector<std::string>{"calico-insert", "kube-router"}));
  const auto& pods = std::get<PoliciesStep>(one.steps.at(0).action).pods;
  EXPECT_EQ(pods.at("routed-1a").ingress_from, (std::vector<std::string>{"pod-1a", "outside"}));
  EXPECT_EQ(pods.at("routed-1a").egress_to, std::nullopt);
  EXPECT_EQ(pods.at("routed-1b").egress_to, std::vector<std::string>{});
  EXPECT_NO_THROW(
      ParseCases(BesideWith("- policies: {routed-1a: {ingress_from: [pod-1a, outside]}, "
                            "routed-1b: {egress_to: []}}",
                            "- pass_time: 1s"),
                 "where.yaml"));
}

TEST(CaseTest, AnUnknownNeighbourIsAnErrorThatListsTheKnownOnes) {
  EXPECT_EQ(ErrorOf(BesideWith("calico-insert", "calicoo")),
            "where.yaml: line 5: case policy: neighbours: \"calicoo\" is no neighbour; known: aws, "
            "azure-npm, calico-append, calico-insert, cilium, docker, firewalld, kube-router, "
            "nodelocaldns, portmap, portmap-nft, weave");
  EXPECT_THAT(ErrorOf(BesideWith("kube-router]", "docker]")),
              HasSubstr("docker enforces no policies"));
  EXPECT_THAT(ErrorOf(BesideWith("  neighbours: [calico-insert, kube-router]\n", "")),
              HasSubstr("the steps policies and neighbour need \"neighbours\""));
  EXPECT_THAT(ErrorOf(BesideWith("{routed-1a: {ingress_from", "{pod-1a: {ingress_from")),
              HasSubstr("steps[0].policies.pod-1a: is none of routed-1a, "));
  EXPECT_THAT(ErrorOf(BesideWith("[pod-1a, outside]", "[pod-7]")), HasSubstr("\"pod-7\" is none"));
  EXPECT_THAT(ErrorOf(BesideWith("ingress_from", "ingress")), HasSubstr("no such field"));
  EXPECT_THAT(ErrorOf(BesideWith("- probe:", "- neighbour: reloads\n  - probe:")),
              HasSubstr("calico-insert has nothing that reloads"));
  EXPECT_THAT(ErrorOf(BesideWith("- probe:", "- neighbour: starts\n  - probe:")),
              HasSubstr("steps[1].neighbour: must be reloads"));
}

TEST(CaseTest, SaysAllErrorsAtOnce) {
  std::string text = With("from: [pod-1a, node-2]", "from: pod-9");
  text += "- name: Bad_Name\n  source: x\n  steps: [{pass_time: 1s}]\n";
  const std::string errors = ErrorOf(text);
  EXPECT_THAT(errors, HasSubstr("pod-9"));
  EXPECT_THAT(errors, HasSubstr("at most 58 of a-z"));
  EXPECT_THAT(errors, HasSubstr("nothing is checked"));
}

}  // namespace
}  // namespace pointsman::e2e
