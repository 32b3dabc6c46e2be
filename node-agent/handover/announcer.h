// Other programs on the node that have to know which mode serves before it does: a policy engine
// that judges what one mechanism sends on otherwise than what another does. Who they are and how
// they are told is not the mode controller's concern.
#pragma once

#include <string>

#include "kube/pointsman/mode.h"
#include "kube/pointsman/proxy_settings.h"

namespace pointsman::agent {

struct Readiness {
  // What others have not done yet, for a person: "Calico's Felix has not …"; "": they are ready, or
  // nobody has to know.
  std::string waits_for;
  // False: where the user accepts that they never are.
  bool required = true;

  bool ready() const { return waits_for.empty(); }
};

// Called on the sync thread, in which no change is written meanwhile: each call takes milliseconds
// and waits for nobody. What it throws is why it could not be done.
class Announcer {
 public:
  virtual ~Announcer() = default;

  // `mode` is about to take connections, and does not before they are ready. Called again and again
  // until then.
  virtual Readiness Announce(kube::Mode mode, const kube::ProxySettings& settings) = 0;
  // `mode` serves: who came later has to know too. Called twice a second.
  virtual Readiness Renew(kube::Mode mode, const kube::ProxySettings& settings) = 0;
  // Nothing of `mode` is in the kernel. Idempotent; also takes back what an earlier process
  // announced.
  virtual void Withdraw(kube::Mode mode) = 0;
};

}  // namespace pointsman::agent
