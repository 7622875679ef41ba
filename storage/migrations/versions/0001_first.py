"""The first schema. Audit rows can be neither changed nor deleted, by the database's own rule."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SQLITE_APPEND_ONLY = """
CREATE TRIGGER audit_no_{event} BEFORE {event} ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END
"""

POSTGRES_REFUSE = """
CREATE FUNCTION karkas_audit_is_append_only() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$
"""

POSTGRES_APPEND_ONLY = """
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
FOR EACH STATEMENT EXECUTE FUNCTION karkas_audit_is_append_only()
"""


def upgrade() -> None:
    op.create_table('audit',
    sa.Column('seq', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('at', sa.String(), nullable=False),
    sa.Column('actor', sa.Text(), nullable=False),
    sa.Column('event', sa.String(), nullable=False),
    sa.Column('subject', sa.Text(), nullable=False),
    sa.Column('data', sa.Text(), nullable=False),
    sa.Column('prev', sa.String(), nullable=False),
    sa.Column('hash', sa.String(), nullable=False),
    sa.Column('signature', sa.String(), nullable=False),
    sa.PrimaryKeyConstraint('seq', name=op.f('pk_audit'))
    )
    op.create_index(op.f('ix_audit_subject'), 'audit', ['subject'], unique=False)
    op.create_table('run',
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('workflow', sa.Text(), nullable=False),
    sa.Column('zone', sa.String(), nullable=True),
    sa.Column('input', sa.JSON(), nullable=False),
    sa.Column('options', sa.JSON(), nullable=False),
    sa.Column('budget', sa.JSON(), nullable=False),
    sa.Column('spent', sa.JSON(), nullable=False),
    sa.Column('deadline', sa.DateTime(timezone=True), nullable=True),
    sa.Column('status', sa.String(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('error', sa.Text(), nullable=True),
    sa.Column('result', sa.JSON(), nullable=True),
    sa.Column('engine', sa.Text(), nullable=True),
    sa.Column('segment', sa.Integer(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('changed_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('finished_at', sa.DateTime(timezone=True), nullable=True),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_run'))
    )
    op.create_index(op.f('ix_run_status'), 'run', ['status'], unique=False)
    op.create_index(op.f('ix_run_zone'), 'run', ['zone'], unique=False)
    op.create_table('zone',
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('level', sa.String(), nullable=False),
    sa.Column('declared_level', sa.String(), nullable=False),
    sa.Column('understanding', sa.Integer(), nullable=False),
    sa.Column('scope', sa.JSON(), nullable=False),
    sa.Column('stage', sa.String(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('author', sa.Text(), nullable=False),
    sa.Column('distillate_id', sa.String(), nullable=True),
    sa.Column('distillate_sha256', sa.String(), nullable=True),
    sa.Column('distillate_artifact', sa.String(), nullable=True),
    sa.Column('distillate_path', sa.Text(), nullable=True),
    sa.Column('frame_artifact', sa.String(), nullable=True),
    sa.Column('frame_level', sa.String(), nullable=True),
    sa.Column('frame_author', sa.Text(), nullable=True),
    sa.Column('frame_distillate_sha256', sa.String(), nullable=True),
    sa.Column('framed_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('changed_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('seal', sa.Text(), nullable=False),
    sa.PrimaryKeyConstraint('name', name=op.f('pk_zone'))
    )
    op.create_table('gate',
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('key', sa.String(), nullable=False),
    sa.Column('run', sa.String(), nullable=False),
    sa.Column('kind', sa.String(), nullable=False),
    sa.Column('status', sa.String(), nullable=False),
    sa.Column('facts', sa.JSON(), nullable=False),
    sa.Column('seal', sa.Text(), nullable=False),
    sa.Column('opened_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('expires_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('deferred_until', sa.DateTime(timezone=True), nullable=True),
    sa.Column('decided_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('decided_by', sa.Text(), nullable=True),
    sa.Column('verdict', sa.JSON(), nullable=True),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('superseded_by', sa.String(), nullable=True),
    sa.Column('decision', sa.Text(), nullable=True),
    sa.Column('signature', sa.Text(), nullable=True),
    sa.ForeignKeyConstraint(['run'], ['run.id'], name=op.f('fk_gate_run')),
    sa.ForeignKeyConstraint(['superseded_by'], ['gate.id'], name=op.f('fk_gate_superseded_by')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_gate')),
    sa.UniqueConstraint('key', name=op.f('uq_gate_key'))
    )
    op.create_index(op.f('ix_gate_run'), 'gate', ['run'], unique=False)
    op.create_index(op.f('ix_gate_status'), 'gate', ['status'], unique=False)
    op.create_table('permit',
    sa.Column('id', sa.String(), nullable=False),
    sa.Column('gate', sa.String(), nullable=False),
    sa.Column('run', sa.String(), nullable=False),
    sa.Column('variant', sa.Integer(), nullable=False),
    sa.Column('action', sa.String(), nullable=False),
    sa.Column('binding', sa.JSON(), nullable=False),
    sa.Column('status', sa.String(), nullable=False),
    sa.Column('issued_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('changed_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('worker', sa.Text(), nullable=True),
    sa.Column('claims', sa.Integer(), nullable=False),
    sa.Column('result', sa.JSON(), nullable=True),
    sa.Column('undo', sa.JSON(), nullable=True),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.ForeignKeyConstraint(['gate'], ['gate.id'], name=op.f('fk_permit_gate')),
    sa.ForeignKeyConstraint(['run'], ['run.id'], name=op.f('fk_permit_run')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_permit')),
    sa.UniqueConstraint('gate', name=op.f('uq_permit_gate'))
    )
    op.create_index(op.f('ix_permit_run'), 'permit', ['run'], unique=False)
    op.create_index(op.f('ix_permit_status'), 'permit', ['status'], unique=False)
    if op.get_bind().dialect.name == "sqlite":
        for event in ("UPDATE", "DELETE"):
            op.execute(SQLITE_APPEND_ONLY.format(event=event))
    else:
        op.execute(POSTGRES_REFUSE)
        op.execute(POSTGRES_APPEND_ONLY)
