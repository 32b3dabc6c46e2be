// What the columns and cells of the types share (kubectl get).
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "e2e/control-plane/registry/resource_type.h"

namespace pointsman::e2e {

using Clock = std::chrono::system_clock;
using Cells = std::vector<Json>;

extern const TableColumn kName;
extern const TableColumn kAge;
// Priority 1: only with -o wide.
TableColumn Column(const char* name, const char* type = "string", int priority = 0);

std::string NameOf(const Json& object);
std::string Age(const Json& object, Clock::time_point now);
std::string Join(const std::vector<std::string>& parts, const std::string& separator = ",");
// The first `most`, and how many more there are.
std::string JoinSome(const std::vector<std::string>& all, std::size_t most);
std::string OrNone(const std::string& text);
// A map of labels; null: there is none.
std::string SelectorText(const Json* selector);
// A metav1.LabelSelector; null: there is none.
std::string LabelSelectorText(const Json* selector);
// The number of members or items of the member `field`; 0 without it.
std::size_t SizeOf(const Json& object, const char* field);

}  // namespace pointsman::e2e
