// The types of CEL as far as they are known before evaluation; kDynamic where they are not.
#pragma once

#include <memory>
#include <string>

#include "e2e/control-plane/schema/cel/program.h"

namespace pointsman::e2e::schema::cel {

enum class Kind {
  kDynamic,
  kNull,
  kBool,
  kInt,
  kUint,
  kDouble,
  kString,
  kBytes,
  kList,
  kMap,
  kObject,
  kDuration,
  kTimestamp,
  kIp,
  kCidr,
  kOptional,
  kType,
};

struct Type {
  Kind kind = Kind::kDynamic;
  const Structural* schema = nullptr;  // kObject; kList and kMap that come from a schema
  bool resource = false;               // kObject with apiVersion, kind, metadata
  std::shared_ptr<Type> element;       // kList, kMap, kOptional; null: dynamic

  std::string Name() const;
};

Type TypeOf(const Structural& schema, bool resource_root);
// CEL names of properties that are no identifiers: "x__dot__y" is "x.y" (apiextensions).
std::string UnescapeField(const std::string& name);

// Throws CompileError. Sets `uses_old_self`.
Type Check(const Node& root, const std::string& source, const CompileOptions& options,
           bool& uses_old_self);

}  // namespace pointsman::e2e::schema::cel
