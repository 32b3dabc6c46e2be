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
/// Priority 1: only with -o wide.
TableColumn column(const char* name, const char* type = "string", int priority = 0);

std::string nameOf(const Json& object);
std::string age(const Json& object, Clock::time_point now);
std::string join(const std::vector<std::string>& parts, const std::string& separator = ",");
/// The first `most`, and how many more there are.
std::string joinSome(const std::vector<std::string>& all, std::size_t most);
std::string orNone(const std::string& text);
std::string lowerCase(std::string text);
/// A map of labels; null: there is none.
std::string selectorText(const Json* selector);
/// A metav1.LabelSelector; null: there is none.
std::string labelSelectorText(const Json* selector);
/// The number of members or items of the member `field`; 0 without it.
std::size_t sizeOf(const Json& object, const char* field);

}  // namespace pointsman::e2e
