// What `pointsman-node-agent --list` prints, on its way through: with the names of Services where
// the kernel has none, and those lines alone that were asked for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kube/net/ip_address.h"
#include "kube/objects/service.h"

namespace pointsman::plugin {

// As listed: "10.96.1.1:80", "[fd00::1]:80"; nullopt, at a node port: "*:30080", "[*]:30080".
std::string PlaceOf(const std::optional<net::IpAddress>& address, net::Family family,
                    uint16_t port);

// Whether `wanted` ("web", "default/web", "default/web:http", an address, or "": all) is that one.
// `address` without brackets.
bool IsWanted(std::string_view wanted, std::string_view name, std::string_view address);

// The Services of the API server by where they are reached.
class ServiceNames {
 public:
  void Add(const kube::Service& service);
  void clear() { by_place_.clear(); }
  // `place` as listed. "default/web:http", or "" where no Service is.
  std::string Of(std::string_view protocol, std::string_view place) const;

 private:
  std::unordered_map<std::string, std::string> by_place_;  // "TCP 10.96.1.1:80"
};

// Takes the text in pieces and passes on whole lines, so that nothing grows with its length.
class Listing {
 public:
  // `names`: asked for as soon as something has no name in the kernel, and not before. `wanted`: as
  // of IsWanted. `on_line` gets lines without their ends, safe for a terminal.
  Listing(std::function<const ServiceNames&()> names, std::string wanted,
          std::function<void(const std::string&)> on_line)
      : names_(std::move(names)), wanted_(std::move(wanted)), on_line_(std::move(on_line)) {}

  // Throws Failure: this is no listing.
  void Take(std::string_view piece);
  void End();
  size_t services() const { return services_; }  // that were passed on
  bool nameless() const { return nameless_; }    // one of them has no name

 private:
  void Line(std::string_view line);
  void Frontend(std::string_view line);
  void Pass(std::string_view line);

  const std::function<const ServiceNames&()> names_;
  const std::string wanted_;
  const std::function<void(const std::string&)> on_line_;
  std::string rest_;  // the beginning of a line
  std::string mode_;  // the heading, until there is something below it
  bool any_ = false;
  bool in_ = false;  // the backends that follow are wanted
  bool nameless_ = false;
  size_t services_ = 0;
};

}  // namespace pointsman::plugin
