// SPDX-License-Identifier: Apache-2.0
// Interrupt interfaces that count instead of interrupting. State lives apart from the objects, so a test can look at it
// after the device that owned them is gone.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <poll.h>
#include <utility>
#include <vector>

#include "vmm/bus/irq.hpp"

namespace inox::fakes {

class FakeIrqLine final : public IrqLine {
public:
    struct State {
        std::atomic<unsigned> triggers{0};
        EventFd trigger{*EventFd::create()};
        EventFd resample{*EventFd::create()};
        unsigned gsi{};
        TriggerMode mode{};

        /// The interrupts since the last look.
        unsigned take() { return triggers.exchange(0); }
    };

    explicit FakeIrqLine(std::shared_ptr<State> state) : state_{std::move(state)} {}
    void trigger() noexcept override { ++state_->triggers; }
    [[nodiscard]] int trigger_fd() const override { return state_->trigger.fd(); }
    [[nodiscard]] int resample_fd() const override;

private:
    std::shared_ptr<State> state_;
};

class FakeMsiVector final : public MsiVector {
public:
    struct State {
        MsiMessage message{};
        std::vector<MsiMessage> delivered{};
        EventFd trigger{*EventFd::create()};
        unsigned routes{};
        bool enabled{};
        bool pending{};
        bool alive{true};
    };

    explicit FakeMsiVector(std::shared_ptr<State> state) : state_{std::move(state)} {}
    ~FakeMsiVector() override { state_->alive = false; }
    Result<void> route(MsiMessage message) override;
    Result<void> enable(bool enabled) override;
    void trigger() noexcept override;
    [[nodiscard]] int trigger_fd() const override { return state_->trigger.fd(); }
    [[nodiscard]] bool pending() const override;

private:
    std::shared_ptr<State> state_;
};

class FakeIrqs final : public Irqs {
public:
    Result<std::unique_ptr<IrqLine>> line(unsigned gsi, TriggerMode mode) override;
    Result<std::unique_ptr<MsiVector>> msi() override;

    std::vector<std::shared_ptr<FakeIrqLine::State>> lines{};
    std::vector<std::shared_ptr<FakeMsiVector::State>> vectors{};
    std::size_t capacity{4096};
};

class FakeDoorbells final : public Doorbells {
public:
    struct Bell {
        Gpa address{};
        unsigned size{};
        std::optional<std::uint64_t> match{};
        int fd{};
        bool operator==(const Bell&) const = default;
    };

    Result<Registration> add(Gpa address, unsigned size, std::optional<std::uint64_t> match,
                             const EventFd& event) override;

    std::shared_ptr<std::vector<Bell>> bells{std::make_shared<std::vector<Bell>>()};
    std::size_t capacity{4096};
};

} // namespace inox::fakes
