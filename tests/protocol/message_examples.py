# SPDX-License-Identifier: Apache-2.0
"""One example of each message. Run this file to write the golden bytes of messages that have none yet."""

from pathlib import Path

from shared_protocol.messages import (
    AddClient,
    AdoptBlob,
    ArtifactRef,
    AskClients,
    AskEstimate,
    AskJobs,
    AskLog,
    AskMetrics,
    AskStatus,
    BeginPairing,
    BlobData,
    BlobPlace,
    BlobState,
    CancelJob,
    CheckBlob,
    ClientList,
    ErrorInfo,
    Estimate,
    GetBlob,
    Hello,
    InputRef,
    JobEvent,
    JobList,
    JobProgress,
    JobStatus,
    JobSummary,
    JoinServer,
    KnownClient,
    LogText,
    Message,
    MetricValues,
    NameBlob,
    OutputRef,
    PairingCode,
    Pictures,
    PlaceBlob,
    PrioritiseJob,
    PutBlob,
    Refusal,
    RemoveClient,
    ServerState,
    StatBlob,
    StopServer,
    SubmitJob,
    SubscribeJob,
    Welcome,
)
from shared_protocol.wire import encode

GOLDEN = Path(__file__).parent / "golden"
GOLDEN_RID = 7
JOB = "0123456789abcdef0123456789abcdef"
FILE = ArtifactRef("ab" * 32, 12_345_678)
ERROR = ErrorInfo("bad_depth", "The depth has 3 frames, the plate has 4.", "Choose another file.", "log: server.log")
KEY = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"  # the public key of ZeroMQ's own examples
CLIENT = KnownClient(KEY, "anna@ws7", 1_700_000_000.25)
PARAMS = {"depth": "file", "focal_px": 512.5, "frames": [0, 49], "lens": None, "deep": {"flag": True}}
EXAMPLES: list[Message] = [
    Hello((1, 0), "ex4d add-on 0.1.0"),
    Welcome((1, 0), "0.1.0", "fe" * 16),
    Refusal(ERROR),
    StatBlob(FILE),
    PutBlob(FILE, 1_048_576),
    NameBlob("cd" * 32, FILE),
    BlobState(FILE, 2_097_152, False),
    GetBlob(FILE, 0, 1_048_576),
    BlobData(FILE, 0),
    PlaceBlob(FILE),
    BlobPlace(FILE, False, "/home/artist/ex4d/artifacts/token.place", "cd" * 16),
    AdoptBlob(FILE, "cd" * 16),
    CheckBlob(FILE),
    SubmitJob(JOB, "reconstruct", PARAMS, (InputRef("plate", FILE, "Straße 01.mov"),)),
    AskEstimate(Pictures(1920, 1080, 49), {"engine": "wan", "quality": "fp8"}),
    Estimate("wan", 31.5, 3, 30.0, "NVIDIA H200", 1, "NVIDIA L40S", 48 << 30, 1 << 30, 23 << 30, None, ("Streams.",)),
    SubscribeJob(JOB, 3),
    CancelJob(JOB),
    JobStatus(JOB, "queued", 1, 2),
    JobEvent(JOB, 5, "failed", 1_700_000_000.25, 2, "Reading the clip", ERROR, (OutputRef("shot.json", FILE),)),
    JobProgress(JOB, "Rendering the mesh", 12, 49, 3.5),
    PrioritiseJob(JOB, -5),
    AskJobs(20),
    JobList((JobSummary(JOB, "take", "running", 5, 1, False, "Painting", 3, 30, 12.5),)),
    AskLog(JOB, 50),
    LogText(JOB, "first line\nsecond line"),
    AskStatus(),
    ServerState("0.1.0", "fe" * 16, 4711, 3600.5, "/home/artist/ex4d", "server.log", 2, JOB, "take", 0.2, 4712),
    StopServer(),
    AskMetrics(),
    MetricValues({"jobs": {"done": 3}, "uptime_s": 5.5}),
    CLIENT,
    AskClients(),
    ClientList((CLIENT,), ("tcp://127.0.0.1:5",)),
    AddClient(KEY, "anna@ws7"),
    RemoveClient("anna@ws7"),
    BeginPairing(60.0),
    PairingCode("ABCDEFGH23456723", "tcp://192.168.1.5:47411", KEY),
    JoinServer("ABCDEFGH23456723", "anna@ws7"),
]

if __name__ == "__main__":
    for example in EXAMPLES:
        path = GOLDEN / f"{example.type_name}.msgpack"
        if not path.exists():
            path.write_bytes(encode(example, GOLDEN_RID))
