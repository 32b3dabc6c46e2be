// Numbers that stand for Services in the kernel's objects, whose names are short.
#pragma once

#include <cstdint>
#include <string_view>

#include "node-agent/model/service_model.h"

namespace pointsman::agent {

// 60 bits of SHA-256, so that no Service can be named so that it takes another one's place.
uint64_t NameHash(std::string_view text);
uint64_t ServiceHash(const ServicePortId& id);

}  // namespace pointsman::agent
