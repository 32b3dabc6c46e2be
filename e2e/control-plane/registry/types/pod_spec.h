// What Pods and the templates of workloads share.
#pragma once

#include <string>
#include <vector>

#include "e2e/control-plane/registry/resource_type.h"
#include "e2e/control-plane/registry/types/cells.h"

namespace pointsman::e2e {

void DefaultPodSpec(Json& spec);
void CheckPodSpec(const Json& spec, const std::string& path, std::vector<FieldError>& errors);

// Sets the defaults of spec.template and spec.revisionHistoryLimit.
void DefaultWorkloadTemplate(Json& object);
// spec.selector and spec.template; nothing for the subresource status.
std::vector<FieldError> ValidateWorkload(const Json& object, const Json* old,
                                         const RequestInfo& info);
// Adds the container names, images and the selector: the wide columns of workloads.
void AddWorkloadCells(const Json& object, Cells& cells);
void AddWorkloadColumns(std::vector<TableColumn>& columns);

}  // namespace pointsman::e2e
