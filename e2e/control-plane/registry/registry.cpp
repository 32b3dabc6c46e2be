#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "e2e/control-plane/registry/resource_type.h"

namespace pointsman::e2e {
namespace {

bool Same(const ResourceType& type, std::string_view group, std::string_view version,
          std::string_view plural) {
  return type.group == group && type.version == version && type.plural == plural;
}

}  // namespace

void Registry::Add(ResourceType type) {
  auto entry = std::make_shared<const ResourceType>(std::move(type));
  const std::lock_guard lock(mutex_);
  auto types = std::make_shared<Types>(*types_);
  auto found = std::find_if(types->begin(), types->end(), [&](const ResourceTypePtr& t) {
    return Same(*t, entry->group, entry->version, entry->plural);
  });
  if (found != types->end()) {
    *found = std::move(entry);
  } else {
    types->push_back(std::move(entry));
  }
  types_ = std::move(types);
  ++generation_;
}

void Registry::Remove(const std::string& group, const std::string& version,
                      const std::string& plural) {
  const std::lock_guard lock(mutex_);
  auto types = std::make_shared<Types>(*types_);
  std::erase_if(*types, [&](const ResourceTypePtr& t) { return Same(*t, group, version, plural); });
  types_ = std::move(types);
  ++generation_;
}

ResourceTypePtr Registry::Find(std::string_view group, std::string_view version,
                               std::string_view plural) const {
  for (const ResourceTypePtr& type : *types()) {
    if (Same(*type, group, version, plural)) return type;
  }
  return nullptr;
}

ResourceTypePtr Registry::FindByStoreName(const ResourceName& name) const {
  ResourceTypePtr any;
  for (const ResourceTypePtr& type : *types()) {
    if (type->StoreName() != name) continue;
    if (type->version == type->storage_version) return type;
    if (!any) any = type;
  }
  return any;
}

ResourceTypePtr Registry::FindByKind(std::string_view group, std::string_view version,
                                     std::string_view kind) const {
  for (const ResourceTypePtr& type : *types()) {
    if (type->group == group && type->version == version && type->kind == kind) return type;
  }
  return nullptr;
}

std::shared_ptr<const Registry::Types> Registry::types() const {
  const std::lock_guard lock(mutex_);
  return types_;
}

std::uint64_t Registry::generation() const {
  const std::lock_guard lock(mutex_);
  return generation_;
}

}  // namespace pointsman::e2e
