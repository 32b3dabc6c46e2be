#include "node-agent/nftables/table_diff.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <spdlog/fmt/fmt.h>

namespace pointsman::agent::nft {
namespace {

template <typename Object>
bool HasName(const std::vector<Object>& objects, std::string_view name) {
  return std::any_of(objects.begin(), objects.end(),
                     [name](const Object& object) { return object.name == name; });
}

class Comparison {
 public:
  Comparison(const DesiredTable& desired, const KernelTable& kernel, net::Family family,
             Connection& connection)
      : desired_(desired),
        kernel_(kernel),
        family_(family),
        connection_(connection),
        change_(family) {}

  TableDiff Run() {
    if (!kernel_.present) {
      Note(fmt::format("table {}", kTable), "is missing");
      rewrite_ = true;
    } else {
      CompareAll();
    }
    if (!rewrite_) return {std::move(change_), std::move(found_)};
    TableChange whole(family_);
    whole.WriteWhole(desired_, kernel_.present);
    return {std::move(whole), std::move(found_)};
  }

 private:
  const SetDefinition& Set(SetId id) const { return SetsOf(family_)[static_cast<size_t>(id)]; }

  void Note(std::string_view object, std::string_view what) {
    found_.Differ(fmt::format("nftables {} {}", net::ToString(family_), object), std::string(what));
  }

  void CompareAll() {
    if (kernel_.flags != 0) {
      Note(fmt::format("table {}", kTable), "is dormant or has other flags");
      change_.AddTable();
    }
    found_.objects_checked += kernel_.sets.size() + kernel_.chains.size();
    CompareSets();
    CompareChains();
    if (rewrite_) return;
    CompareClasses(SetId::kClasses);
    CompareClasses(SetId::kClassesFromNode);
    for (size_t i = 0; i < kModelSets && !rewrite_; ++i)
      CompareElements(static_cast<SetId>(i));
    DeleteUnused();
  }

  void CompareSets() {
    for (const SetDefinition& set : SetsOf(family_)) {
      const auto found = kernel_.sets.find(set.name);
      if (found == kernel_.sets.end()) {
        Note(fmt::format("set {}", set.name), "is missing");
        change_.AddSet(set);
      } else if (!found->second.Is(set)) {
        Note(fmt::format("set {}", set.name), "is of another kind");
        rewrite_ = true;
      }
    }
  }

  void CompareChains() {
    std::vector<const Chain*> changed;
    for (const Chain& chain : desired_.chains) {
      const auto found = kernel_.chains.find(chain.name);
      if (found == kernel_.chains.end()) {
        Note("chain " + chain.name, "is missing");
        change_.AddEmptyChain(chain);
        changed.push_back(&chain);
      } else if (!found->second.HasHookOf(chain)) {
        Note("chain " + chain.name, "has another hook, priority or policy");
        rewrite_ = true;
      } else if (!found->second.HasRulesOf(chain)) {
        Note("chain " + chain.name, "has other rules than were written");
        change_.EmptyChain(chain.name);
        changed.push_back(&chain);
      }
    }
    for (const Chain* chain : changed)
      change_.AppendRules(*chain);
    for (const auto& [name, chain] : kernel_.chains) {
      if (!HasName(desired_.chains, name)) change_.EmptyUnusedChain(name);
    }
  }

  void CompareClasses(SetId map) {
    const SetDefinition& set = Set(map);
    std::map<std::string, std::string> there;
    bool strange = false;
    if (kernel_.sets.contains(set.name)) {
      ReadElements(
          connection_, family_, kTable, set.name,
          [&] {
            there.clear();
            strange = false;
          },
          [&](const KernelElement& element) {
            if (element.key.size() != set.key_size) strange = true;
            there.emplace(element.key, element.plain ? element.data : std::string_view());
            return true;
          });
    }
    if (strange) return NoteStrange(set);
    found_.objects_checked += there.size();
    for (const auto& [traffic_class, uses] : desired_.classes) {
      if (ClassMap(traffic_class) != map) continue;
      const std::string chain = ClassChainName(traffic_class);
      const auto found = there.find(std::string(View(ClassKey(traffic_class))));
      if (found == there.end()) {
        // A set that is missing has been noted as one.
        if (kernel_.sets.contains(set.name))
          Note(fmt::format("element {} of set {}", chain, set.name), "is missing");
        change_.AddClass(traffic_class);
        continue;
      }
      if (found->second != chain) {
        Note(fmt::format("element {} of set {}", chain, set.name), "leads elsewhere");
        change_.ReplaceClass(traffic_class);
      }
      there.erase(found);
    }
    for (const auto& [key, chain] : there) {
      if (ClassChainName(ClassFromKey(
              std::span(reinterpret_cast<const uint8_t*>(key.data()), key.size()))) == chain) {
        idle_chains_.insert(chain);  // no damage: Sync leaves it
      } else {
        Note(fmt::format("element {} of set {}", chain, set.name), "belongs to nothing");
      }
      change_.DeleteClass(map, key);
    }
  }

  void CompareElements(SetId id) {
    const SetDefinition& set = Set(id);
    const std::span<const Element> desired = desired_.ElementsOf(id);
    if (!kernel_.sets.contains(set.name)) {
      for (const Element& element : desired)
        change_.AddElement(element);
      return;
    }
    enum State : uint8_t { kMissing, kSame, kOther };
    std::vector<uint8_t> states(desired.size());
    std::vector<Element> surplus;
    uint64_t seen = 0;
    bool strange = false;
    const auto find = [&](const Element& element) {
      const auto at = std::lower_bound(desired.begin(), desired.end(), element);
      return at != desired.end() && SameKey(*at, element) ? at : desired.end();
    };
    ReadElements(
        connection_, family_, kTable, set.name,
        [&] {
          std::fill(states.begin(), states.end(), kMissing);
          surplus.clear();
          seen = 0;
          strange = false;
        },
        [&](const KernelElement& raw) {
          ++seen;
          Element element;
          element.set = id;
          if (raw.key.size() != set.key_size || raw.data.size() > element.data.size()) {
            strange = true;
            return true;
          }
          std::copy(raw.key.begin(), raw.key.end(), element.key.begin());
          std::copy(raw.data.begin(), raw.data.end(), element.data.begin());
          const auto found = find(element);
          const bool same = found != desired.end() && raw.plain && *found == element;
          // With the value that the kernel has: an interval is deleted by both of its ends.
          if (!same) surplus.push_back(element);
          if (found != desired.end())
            states[static_cast<size_t>(found - desired.begin())] = same ? kSame : kOther;
          return true;
        });
    if (strange) return NoteStrange(set);
    found_.objects_checked += seen;
    for (const Element& element : surplus) {
      const bool replaced = find(element) != desired.end();
      if (!replaced) Note(fmt::format("an element of set {}", set.name), "belongs to nothing");
      change_.DeleteElement(element, replaced || MakesRoom(element, desired));
    }
    for (size_t i = 0; i < states.size(); ++i) {
      if (states[i] == kSame) continue;
      Note(fmt::format("an element of set {} of {}", set.name, OwnerOf(desired[i])),
           states[i] == kMissing ? "is missing" : "has another value");
      change_.AddElement(desired[i]);
    }
  }

  void NoteStrange(const SetDefinition& set) {
    Note(fmt::format("set {}", set.name), "has an element that matches everything");
    rewrite_ = true;
  }

  // Last, when no chain and no element names them any more.
  void DeleteUnused() {
    for (const auto& [name, chain] : kernel_.chains) {
      if (HasName(desired_.chains, name)) continue;
      if (!idle_chains_.contains(name)) Note("chain " + name, "belongs to nothing");
      change_.DeleteChain(name);
    }
    for (const auto& [name, set] : kernel_.sets) {
      if (HasName(SetsOf(family_), name)) continue;
      Note("set " + name, "belongs to nothing");
      change_.DeleteSet(name);
    }
  }

  const DesiredTable& desired_;
  const KernelTable& kernel_;
  const net::Family family_;
  Connection& connection_;
  TableChange change_;
  VerifyResult found_;
  bool rewrite_ = false;               // what is there cannot be changed into ours
  std::set<std::string> idle_chains_;  // of traffic classes that nothing uses any more
};

}  // namespace

TableDiff CompareTable(const DesiredTable& desired, const KernelTable& kernel, net::Family family,
                       Connection& connection) {
  return Comparison(desired, kernel, family, connection).Run();
}

}  // namespace pointsman::agent::nft
