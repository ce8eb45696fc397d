// SPDX-License-Identifier: GPL-2.0
/*
 * inox_svm: KVM of Linux 6.14 and newer on QEMU's SVM. For the lab's machine only.
 *
 * QEMU's SVM leaves the type of the last event in EXITINTINFO of a guest's control block after the event was delivered,
 * without the valid bit. KVM asks only for the type before it emulates an instruction: it then takes the exit for one in
 * the middle of a delivery, and ends the guest with KVM_INTERNAL_ERROR_DELIVERY_EV. So an exception that an access to
 * emulated memory follows ends a guest. This module clears a field that is not valid before KVM looks at it.
 */
#include <linux/kprobes.h>
#include <linux/kvm_host.h>
#include <linux/module.h>
#include <asm/svm.h>

/* The head of KVM's own structure (arch/x86/kvm/svm/svm.h) */
struct vcpu_svm {
	struct kvm_vcpu vcpu;
	struct vmcb *vmcb;
};

static atomic64_t cleared;

static int shown(char *to, const struct kernel_param *param)
{
	return sysfs_emit(to, "%lld\n", atomic64_read(&cleared));
}
static const struct kernel_param_ops counter = { .get = shown };
module_param_cb(cleared, &counter, NULL, 0444);
MODULE_PARM_DESC(cleared, "events of an earlier exit that KVM would have taken for ones under delivery");

/* int svm_check_emulate_instruction(struct kvm_vcpu *vcpu, ...) */
static int before(struct kprobe *probe, struct pt_regs *regs)
{
	struct vmcb_control_area *control = &((struct vcpu_svm *)regs->di)->vmcb->control;

	if (control->exit_int_info & SVM_EXITINTINFO_VALID || !(control->exit_int_info & SVM_EXITINTINFO_TYPE_MASK))
		return 0;
	control->exit_int_info = 0;
	atomic64_inc(&cleared);
	return 0;
}

static struct kprobe probe = {
	.symbol_name = "kvm_amd:svm_check_emulate_instruction",
	.pre_handler = before,
};

static int __init inox_svm_init(void)
{
	return register_kprobe(&probe);
}

static void __exit inox_svm_exit(void)
{
	unregister_kprobe(&probe);
}

module_init(inox_svm_init);
module_exit(inox_svm_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("KVM does not take an event that QEMU's SVM has delivered for one under delivery");
