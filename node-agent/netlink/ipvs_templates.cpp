#include "node-agent/netlink/ipvs_templates.h"

namespace pointsman::agent::netlink {
namespace {

// Templates have these states (ip_vs_proto.c); before Linux 4.19 they had their protocol's first
// one. A UDP flow from client port 0 looks the same; it is where its client's template is.
bool IsTemplateState(std::string_view state) {
  return state == "NONE" || state == "ASSURED" || state == "UDP";
}

}  // namespace

void IpvsTemplateParser::Line(std::string_view line) {
  std::string_view rest = line;
  const std::string_view protocol = Word(rest);
  if (protocol == "Pro") return;  // the head
  const std::string_view client = Word(rest);
  const std::string_view client_port = Word(rest);
  if (client_port.size() != 4) RefuseConnectionLine(line);
  if (client_port != "0000") return;  // a connection: most lines are
  IpvsTemplate t;
  const std::string_view address = Word(rest);
  const std::string_view port = Word(rest);
  const std::string_view destination = Word(rest);
  const std::string_view destination_port = Word(rest);
  const std::string_view state = Word(rest);
  // The difference of two times, as it is: when the first has passed, nearly 2^64 / HZ.
  uint64_t left = 0;
  if (!ParseIpvsProtocol(protocol, t.protocol) || !ParseIpvsAddress(client, t.client) ||
      !ParseIpvsAddress(address, t.address) || !ParseNumber(port, 16, t.port) ||
      !ParseIpvsAddress(destination, t.destination) ||
      !ParseNumber(destination_port, 16, t.destination_port) || !ParseNumber(Word(rest), 10, left))
    RefuseConnectionLine(line);
  if (!IsTemplateState(state) || left > UINT32_MAX) return;
  t.left = std::chrono::seconds(left);
  each_(t);
}

void IpvsTemplateParser::Add(std::string_view text) {
  lines_.Add(text, [this](std::string_view line) { Line(line); });
}

void IpvsTemplateParser::End() {
  if (!lines_.partial().empty()) RefuseConnectionLine(lines_.partial());
}

bool ReadIpvsTemplates(std::chrono::steady_clock::time_point deadline,
                       const EachIpvsTemplate& each) {
  IpvsTemplateParser parser(each);
  return ReadIpvsConnections(deadline, parser);
}

}  // namespace pointsman::agent::netlink
