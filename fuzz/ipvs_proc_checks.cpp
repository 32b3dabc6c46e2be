#include <fmt/format.h>

#include "fuzz/checks.h"
#include "fuzz/pieces.h"
#include "node-agent/netlink/ipvs_half_open.h"
#include "node-agent/netlink/ipvs_table.h"
#include "node-agent/netlink/ipvs_templates.h"

namespace pointsman::fuzz {

using namespace agent::netlink;
namespace {

// Why it refuses what it does is added to `text`.
void Feed(auto& parser, const auto& for_each_piece, std::string& text) {
  try {
    for_each_piece([&](std::string_view piece) { parser.Add(piece); });
    parser.End();
  } catch (const std::runtime_error& error) {
    text += error.what();
  }
}

}  // namespace

void CheckIpvsTable(std::string_view input) {
  CheckPieces(input, [](const auto& for_each_piece) {
    std::string text;
    IpvsTableParser parser(
        [&](const IpvsServer& server, const std::vector<IpvsDestination>& destinations) {
          text += fmt::format("{} {} {}:{} {}", server.fwmark, server.protocol,
                              server.address.ToString(), server.port, server.scheduler);
          for (const IpvsDestination& d : destinations) {
            text += fmt::format(", {}:{} {} {} {} {}", d.address.ToString(), d.port, d.forwarding,
                                d.weight, d.active, d.inactive);
          }
          text += "\n";
        });
    Feed(parser, for_each_piece, text);
    return text;
  });
}

void CheckIpvsTemplates(std::string_view input) {
  CheckPieces(input, [](const auto& for_each_piece) {
    std::string text;
    IpvsTemplateParser parser([&](const IpvsTemplate& t) {
      text += fmt::format("{} {} {}:{} {}:{} {}\n", t.protocol, t.client.ToString(),
                          t.address.ToString(), t.port, t.destination.ToString(),
                          t.destination_port, t.left.count());
    });
    Feed(parser, for_each_piece, text);
    return text;
  });
}

void CheckIpvsHalfOpen(std::string_view input) {
  CheckPieces(input, [](const auto& for_each_piece) {
    std::string text;
    IpvsHalfOpenParser parser([&](const net::IpAddress& address, uint16_t port) {
      text += fmt::format("{}:{}\n", address.ToString(), port);
    });
    Feed(parser, for_each_piece, text);
    return text;
  });
}

}  // namespace pointsman::fuzz
