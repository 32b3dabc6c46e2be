// What can be read of an object that cannot be decoded.
#pragma once

#include <string>
#include <string_view>

namespace pointsman::kube {

struct ObjectName {
  std::string ns;  // "" for cluster-scoped ones
  std::string name;
};

// metadata.namespace and metadata.name, "" where they cannot be read. What comes behind them in the
// text may be anything. kJsonPadding bytes (client.h) can be read behind `object`. Thread-safe.
ObjectName ReadObjectName(std::string_view object);

}  // namespace pointsman::kube
