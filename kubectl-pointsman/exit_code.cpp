#include "kubectl-pointsman/exit_code.h"

#include <exception>

#include "kube/client/api_error.h"
#include "kube/config/config.h"
#include "kube/http/transport.h"
#include "kube/text/text.h"

namespace pointsman::plugin {
namespace {

constexpr size_t kMostMessage = 8192;

Ending Of(ExitCode code, const std::string& message) {
  return {code, text::Message(message, kMostMessage)};
}

Ending OfApiError(const kube::ApiError& error) {
  const std::string said = std::string("the API server says: ") + error.what();
  if (error.code() == 401) {
    return Of(ExitCode::kForbidden,
              said +
                  "\nThe credentials of this context are not accepted: see `kubectl config view "
                  "--minify`, or choose another with --context.");
  }
  if (error.IsForbidden()) {
    return Of(ExitCode::kForbidden,
              said +
                  "\nThe right is missing: docs/kubectl-pointsman.md lists those that each "
                  "command needs (`kubectl auth can-i list nodeproxies.pointsman.io`).");
  }
  if (error.IsNotFound()) {
    return Of(ExitCode::kNotFound,
              said +
                  "\nIs Pointsman installed on this cluster (`kubectl api-resources "
                  "--api-group=pointsman.io`)? If not: `kubectl apply -k manifests/base`.");
  }
  if (error.IsConflict()) {
    return Of(ExitCode::kError, said +
                                    "\nSomebody else changes the object at the same time: look "
                                    "at it and try again.");
  }
  return Of(ExitCode::kError, said);
}

}  // namespace

Ending EndingOfCurrentException() {
  try {
    throw;
  } catch (const Failure& failure) {
    return Of(failure.code(), failure.what());
  } catch (const kube::ApiError& error) {
    return OfApiError(error);
  } catch (const kube::TransportError& error) {
    return Of(ExitCode::kUnreachable,
              std::string("the API server cannot be reached: ") + error.what() +
                  "\nIs it the right one (`kubectl config view --minify`), and does `kubectl "
                  "version` reach it?");
  } catch (const std::exception& error) {
    return Of(ExitCode::kError, error.what());
  }
}

}  // namespace pointsman::plugin
