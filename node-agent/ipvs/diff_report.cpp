#include "node-agent/ipvs/diff_report.h"

namespace pointsman::agent::ipvs {
namespace {

std::string NameOf(const netlink::IpvsDestination& d, const FrontendKey& key) {
  return "destination " + d.address.ToString() + ":" + std::to_string(d.port) + " of " +
         key.ToString();
}

std::string SetOf(const SetEntry& element) {
  return "ipset " + SetName(element.set, element.element.ip.family());
}

}  // namespace

std::string DiffReport::Object(const FrontendKey& key) const {
  return frontend_ != nullptr ? frontend_->entry->id.ToString() : key.ToString();
}

void DiffReport::BeginFrontend(const FrontendKey&, const Frontend& frontend) {
  frontend_ = &frontend;
  result_.objects_checked += 1 + frontend.backends().size();
}

void DiffReport::MissingVip(const net::IpAddress& ip) {
  result_.Differ("address " + ip.ToString(), "is not bound");
}

void DiffReport::SurplusVip(const net::IpAddress& ip) {
  result_.Differ("address " + ip.ToString(), "is bound and no Service has it");
}

void DiffReport::MissingElement(const SetEntry& element, const ServicePortEntry*) {
  result_.Differ(SetOf(element), element.element.ToString(SetTypeOf(element.set)) + " is missing");
}

void DiffReport::SurplusElement(const SetEntry& element, bool) {
  result_.Differ(SetOf(element),
                 element.element.ToString(SetTypeOf(element.set)) + " does not belong there");
}

bool DiffReport::Server(const ServerDiff& diff) {
  const std::string object = Object(diff.key);
  if (diff.present == nullptr) {
    if (diff.wanted != 0)
      result_.Differ(object, "virtual server " + diff.key.ToString() + " is missing");
    return diff.wanted != 0;
  }
  if (diff.server_differs && diff.wanted != 0) {
    const netlink::IpvsServer& present = diff.present->server;
    result_.Differ(object, "virtual server " + diff.key.ToString() + " has scheduler " +
                               present.scheduler + ", flags " + std::to_string(present.flags) +
                               ", persistence " + std::to_string(present.persistence));
  }
  for (const netlink::IpvsDestination& d : diff.missing)
    result_.Differ(object, NameOf(d, diff.key) + " is missing");
  for (const netlink::IpvsDestination* d : diff.changed)
    result_.Differ(object, NameOf(*d, diff.key) + " has weight " + std::to_string(d->weight));
  for (const netlink::IpvsDestination* d : diff.surplus) {
    if (d->weight != 0 || diff.left_to_another)
      result_.Differ(object, NameOf(*d, diff.key) + " does not belong there");
  }
  return diff.wanted != 0 || (!diff.surplus.empty() && !diff.left_to_another);
}

}  // namespace pointsman::agent::ipvs
