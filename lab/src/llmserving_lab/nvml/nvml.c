/* A stand-in for NVIDIA's libnvidia-ml.so.1 with one GPU: the simulated device.

   It answers what it finds in the file that the simulated device writes (state.py): by default the one in the pod's
   control folder. Without the file there is no GPU. Names, numbers and structs are those of NVML's public interface
   (https://docs.nvidia.com/deploy/nvml-api). Functions that are not here are "not found" to pynvml. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SUCCESS = 0,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    GPU_IS_LOST = 15,
};

typedef struct {
    char name[96];
    char uuid[96];
    unsigned long long total, used;
} gpu_state;

typedef struct {
    unsigned long long total, free, used;
} memory_v1;

typedef struct {
    unsigned int version;
    unsigned long long total, reserved, free, used;
} memory_v2;

static char the_device;

/* Reads the file anew for every question, as a driver looks at the card. Returns 0 when there is no device. */
static int read_state(gpu_state *state) {
    const char *path = getenv("SIMULATED_GPU");
    FILE *file = fopen(path ? path : "/run/llmserving/simulated-gpu", "r");
    if (!file) return 0;
    int fields = fscanf(file, "name %95[^\n]\nuuid %95s\ntotal_bytes %llu\nused_bytes %llu", state->name, state->uuid,
                        &state->total, &state->used);
    fclose(file);
    return fields == 4;
}

static int copy(char *to, unsigned int size, const char *text) {
    if (strlen(text) >= size) return INSUFFICIENT_SIZE;
    strcpy(to, text);
    return SUCCESS;
}

int nvmlInit_v2(void) { return SUCCESS; }
int nvmlInitWithFlags(unsigned int flags) { (void)flags; return SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }

const char *nvmlErrorString(int code) {
    switch (code) {
        case SUCCESS: return "Success";
        case INVALID_ARGUMENT: return "Invalid Argument";
        case NOT_SUPPORTED: return "Not Supported";
        case NOT_FOUND: return "Not Found";
        case INSUFFICIENT_SIZE: return "Insufficient Size";
        case GPU_IS_LOST: return "GPU is lost";
        default: return "Unknown Error";
    }
}

int nvmlSystemGetDriverVersion(char *text, unsigned int size) { return copy(text, size, "simulated"); }
int nvmlSystemGetNVMLVersion(char *text, unsigned int size) { return copy(text, size, "simulated"); }

int nvmlDeviceGetCount_v2(unsigned int *count) {
    gpu_state state;
    *count = read_state(&state) ? 1 : 0;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    gpu_state state;
    if (index != 0 || !read_state(&state)) return INVALID_ARGUMENT;
    *device = &the_device;
    return SUCCESS;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    gpu_state state;
    if (!read_state(&state) || strcmp(uuid, state.uuid) != 0) return NOT_FOUND;
    *device = &the_device;
    return SUCCESS;
}

int nvmlDeviceGetIndex(void *device, unsigned int *index) {
    (void)device;
    *index = 0;
    return SUCCESS;
}

int nvmlDeviceGetUUID(void *device, char *text, unsigned int size) {
    gpu_state state;
    (void)device;
    return read_state(&state) ? copy(text, size, state.uuid) : GPU_IS_LOST;
}

int nvmlDeviceGetName(void *device, char *text, unsigned int size) {
    gpu_state state;
    (void)device;
    return read_state(&state) ? copy(text, size, state.name) : GPU_IS_LOST;
}

int nvmlDeviceGetMemoryInfo(void *device, memory_v1 *memory) {
    gpu_state state;
    (void)device;
    if (!read_state(&state)) return GPU_IS_LOST;
    memory->total = state.total;
    memory->used = state.used;
    memory->free = state.total - state.used;
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo_v2(void *device, memory_v2 *memory) {
    memory_v1 plain;
    int code = nvmlDeviceGetMemoryInfo(device, &plain);
    if (code != SUCCESS) return code;
    memory->total = plain.total;
    memory->reserved = 0;
    memory->free = plain.free;
    memory->used = plain.used;
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(void *device, void *rates) {
    (void)device, (void)rates;
    return NOT_SUPPORTED;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *reasons) {
    (void)device;
    *reasons = 0;
    return SUCCESS;
}

int nvmlDeviceGetCurrentClocksEventReasons(void *device, unsigned long long *reasons) {
    return nvmlDeviceGetCurrentClocksThrottleReasons(device, reasons);
}

int nvmlDeviceGetTotalEccErrors(void *device, int kind, int counter, unsigned long long *count) {
    (void)device, (void)kind, (void)counter;
    *count = 0;
    return SUCCESS;
}
