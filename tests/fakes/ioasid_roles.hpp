// SPDX-License-Identifier: Apache-2.0
// What tests of the rules for the core's participants share.
#pragma once

#include <chrono>
#include <optional>
#include <thread>

#include "tests/fakes/ioasid_actors.hpp"
#include "tests/fakes/pasid_guest.hpp"

/// For `using namespace`.
namespace inox::fakes::ioasid_roles {

using namespace ioasid_words;
using fakes::PasidGuest;
using iommu::PasidStatus;

inline constexpr auto endpoint = PasidGuest::endpoint;
inline constexpr iommu::PageTable some_table{.root = 0x100000};

unsigned held(PasidGuest& guest, HostPasid host, IoasidHolder holder);

/// A device with one context register for a PASID, cleaned by its worker.
class Device final : public iommu::IoasidNotifier {
public:
    explicit Device(PasidGuest& guest);
    /// The guest writes the register.
    bool program(GuestPasid pasid);
    void work();
    void on_ioasid(const Event& event, iommu::IoasidContext&) noexcept override;
    HostPasid context{};
    bool dirty{false};

private:
    iommu::PasidService& service_;
    Registration registration_{};
};

/// Runs `command` on a thread and waits until `seen`; `held` is let go after that.
template <class Command, class Seen>
void while_in_flight(PasidGuest& guest, GuestPasid pasid, Command command, Seen seen) {
    auto submission = std::optional{guest.service->submit(pasid)};
    if (!submission->has_value())
        throw std::logic_error{"the submission was refused"};
    std::thread thread{command};
    while (guest.service->table().translate(pasid))
        std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds{5});
    seen();
    submission.reset();
    thread.join();
}

} // namespace inox::fakes::ioasid_roles
